from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlcluster.cli.time_gap import measure_time_gap
from mlcluster.data import DatasetSnapshot, LocalEngine, prepare
from mlcluster.spec import DataSpec


def snapshot_of(folder: Path, *, drift: float, time: str | None = "day") -> DatasetSnapshot:
    """Rows whose answer moves with the days by `drift`."""
    rng = np.random.default_rng(0)
    day = np.arange(2000)
    x = rng.normal(size=2000)
    answer = x + drift * day / 2000 + rng.normal(0, 0.3, 2000)
    season = np.floor(day / 40)
    pq.write_table(pa.table({"day": day, "x": x, "season": season, "answer": answer}), folder / "t.parquet")
    spec = DataSpec(source="t.parquet", target="answer", time=time, exclude=() if time else ("day",))
    return prepare(spec, base=folder, folder=folder / "snapshot", seed=1, engine=LocalEngine())


def test_a_drifting_world_opens_a_gap_that_a_random_split_hides(tmp_path: Path) -> None:
    gap = measure_time_gap(snapshot_of(tmp_path, drift=6.0), seed=0)
    assert gap is not None
    assert gap.metric == "r2"
    assert gap.at_random > 0.9
    assert gap.by_time < 0.6
    assert gap == measure_time_gap(snapshot_of(tmp_path, drift=6.0), seed=0)
    assert gap != measure_time_gap(snapshot_of(tmp_path, drift=6.0), seed=1)
    assert f"by time, boosting has r2 {gap.by_time:.3f}" in str(gap)


def test_a_world_that_stands_still_has_none(tmp_path: Path) -> None:
    gap = measure_time_gap(snapshot_of(tmp_path, drift=0.0), seed=0)
    assert gap is not None
    assert abs(gap.at_random - gap.by_time) < 0.05


def test_there_is_nothing_to_compare_where_the_split_is_not_by_time(tmp_path: Path) -> None:
    assert measure_time_gap(snapshot_of(tmp_path, drift=0.0, time=None), seed=0) is None
