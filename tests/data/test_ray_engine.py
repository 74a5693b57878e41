"""What only Ray can show: that its workers give what this process gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from data_tables import write_people

from mlcluster.data import LocalEngine, prepare
from mlcluster.data.ray_engine import RayDataEngine
from mlcluster.errors import ClusterError, DataError
from mlcluster.spec import DataSpec, LabelsSpec, ScreenSpec
from tests.data.image_tables import spoilt_table, write_bars

SPEC = DataSpec(source="people.parquet", target="rich", exclude=("person",), expect={"age": {"max": 89}})  # type: ignore[dict-item]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("ray_session")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_ray_gives_the_snapshot_that_this_process_gives(tmp_path: Path) -> None:
    write_people(tmp_path, 600, row_group_size=150)
    quarantine = SPEC.model_copy(update={"bad_rows": "quarantine"})
    local, on_ray = (
        prepare(quarantine, base=tmp_path, folder=tmp_path / type(engine).__name__, seed=3, engine=engine)
        for engine in (LocalEngine(), RayDataEngine())
    )
    assert on_ray.digest == local.digest
    assert on_ray.manifest == local.manifest
    for split in ("train", "validation", "test"):
        # Compared as text: NaN equals nothing, itself included.
        assert str(on_ray.table(split).to_pylist()) == str(local.table(split).to_pylist())
        assert on_ray.matrices(split, "dense")[0].tobytes() == local.matrices(split, "dense")[0].tobytes()
    assert str(on_ray.quarantine().to_pylist()) == str(local.quarantine().to_pylist())

    with pytest.raises(DataError, match=r"data\.expect\.age = \.\.89 is broken"):
        prepare(SPEC, base=tmp_path, folder=tmp_path / "failed", seed=3, engine=RayDataEngine())
    (tmp_path / "people.parquet").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read"):
        prepare(SPEC, base=tmp_path, folder=tmp_path / "failed", seed=3, engine=RayDataEngine())


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("ray_session")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_ray_gives_the_joined_snapshot_that_this_process_gives(tmp_path: Path) -> None:
    write_people(tmp_path, 600, row_group_size=50)
    scores = pa.table({"who": [f"{person}" for person in range(180)], "score": [one**0.5 for one in range(180)]})
    pq.write_table(scores, tmp_path / "scores.parquet")
    spec = DataSpec.model_validate(
        {
            "source": "people.parquet",
            "sources": {"scores": "scores.parquet"},
            "joins": [{"source": "scores", "on": {"left": "person", "right": "who"}, "min_match": 0.8}],
            "target": "rich",
            "exclude": "person",
        }
    )
    local, on_ray = (
        prepare(spec, base=tmp_path, folder=tmp_path / type(engine).__name__, seed=3, engine=engine)
        for engine in (LocalEngine(), RayDataEngine())
    )
    assert "score" in on_ray.schema.feature_names
    assert on_ray.manifest == local.manifest
    assert on_ray.matrices("train", "dense")[0].tobytes() == local.matrices("train", "dense")[0].tobytes()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("ray_session")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_ray_reads_the_images_that_this_process_reads(tmp_path: Path) -> None:
    path = write_bars(tmp_path, spoilt_table(), row_group_size=9)
    spec = DataSpec.model_validate({"source": str(path), "target": "shape", "bad_rows": "quarantine"})
    local, on_ray = (
        prepare(spec, base=tmp_path, folder=tmp_path / type(engine).__name__, seed=3, engine=engine)
        for engine in (LocalEngine(), RayDataEngine())
    )
    assert len(on_ray.schema.images) == 1
    assert on_ray.manifest == local.manifest
    assert on_ray.quarantine().equals(local.quarantine())
    assert on_ray.matrices("train", "dense")[0].tobytes() == local.matrices("train", "dense")[0].tobytes()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("ray_session")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_ray_fills_the_same_labels_in_and_screens_the_same_rows(tmp_path: Path) -> None:
    table = write_people(tmp_path, 600)
    is_missing = pa.array(np.arange(600) % 3 == 0)
    labelled = table.set_column(4, "rich", pc.if_else(is_missing, None, table["rich"].combine_chunks()))
    pq.write_table(labelled, tmp_path / "people.parquet", row_group_size=150)
    said = table["rich"].to_pylist()
    lines = "".join(f"{row},ann,{said[row]}\n" for row in range(0, 600, 3))
    (tmp_path / "votes.csv").write_text(f"row,annotator,label\n{lines}")
    labels, screen = LabelsSpec(votes="votes.csv"), ScreenSpec(trimmed_loss="quarantine")
    spec = DataSpec(source="people.parquet", target="rich", exclude=("person",), labels=labels, screen=screen)
    local, on_ray = (
        prepare(spec, base=tmp_path, folder=tmp_path / type(engine).__name__, seed=3, engine=engine)
        for engine in (LocalEngine(), RayDataEngine())
    )
    assert sum(local.num_rows.values()) + local.quarantined == 600
    assert on_ray.manifest == local.manifest


@pytest.mark.slow
def test_without_a_session_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ClusterError, match=r"ray = no session; start one with ray\.init"):
        RayDataEngine().run(str, [1])
