"""What moves over time is told, and what does not is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlcluster.data import DataProfile, profile
from mlcluster.data import drift as drift_module
from mlcluster.data.drift import measure_drift
from mlcluster.spec import DataSpec


def steady(seed: int, num_rows: int = 2000) -> dict[str, Any]:
    """Columns of all kinds that have nothing to do with the time `t`."""
    rng = np.random.default_rng(seed)
    return {
        "t": rng.permutation(np.sort(rng.uniform(0, 1e6, num_rows))),
        "x": rng.normal(size=num_rows),
        "skewed": rng.exponential(size=num_rows) ** 2,
        "few": rng.integers(0, 4, num_rows),
        "word": rng.choice(["a", "b", "c", "d", "e"], num_rows, p=[0.4, 0.3, 0.2, 0.08, 0.02]),
        "many": np.array([f"l{value % 200}" for value in rng.zipf(1.5, num_rows)]),
        "holes": np.where(rng.random(num_rows) < 0.05, np.nan, rng.normal(size=num_rows)),
        "flag": rng.random(num_rows) < 0.1,
        "y": rng.integers(0, 2, num_rows),
    }


def planted(kind: str, seed: int) -> dict[str, Any]:
    """The same with one column that moves after three fifths of the time."""
    data = steady(seed)
    rng = np.random.default_rng(seed + 1000)
    is_late = data["t"] > 0.6e6
    if kind == "x":
        data["x"] = data["x"] + 0.7 * is_late
    elif kind == "word":
        data["word"] = np.where(is_late & (data["word"] == "c"), "a", data["word"])
    else:
        data["holes"] = np.where(is_late & (rng.random(len(is_late)) < 0.25), np.nan, data["holes"])
    return data


def profiled(data: dict[str, Any], folder: Path, *, size: int = 700, **settings: Any) -> DataProfile:
    pq.write_table(pa.table(data), folder / "t.parquet", row_group_size=size)
    return profile(DataSpec(**{"source": "t.parquet", "target": "y", **settings}), base=folder)


def moved(found: DataProfile) -> dict[str | None, str]:
    return {finding.column: finding.message for finding in found.findings if finding.kind == "drift"}


@pytest.mark.parametrize("num_rows", [250, 2000])
def test_what_stands_still_raises_no_alarm_on_40_of_40_seeds(num_rows: int) -> None:
    for seed in range(40):
        table = pa.table(steady(seed, num_rows))
        found = measure_drift(table, "t", table.column_names[1:])
        assert found is not None
        assert [column.name for column in found.columns if column.is_drift] == []


@pytest.mark.parametrize(
    ("kind", "words"), [("x", "quantiles at 10, 50, 90 %"), ("word", "share of c"), ("holes", "missing")]
)
def test_what_moves_is_found_on_every_seed_and_nothing_else_is(tmp_path: Path, kind: str, words: str) -> None:
    for seed in range(10):
        found = moved(profiled(planted(kind, seed), tmp_path, time="t"))
        assert list(found) == [kind]
        assert words in found[kind]
        assert f"{kind} drifts over t: PSI" in found[kind]


def test_without_a_time_nothing_is_said(tmp_path: Path) -> None:
    found = profiled(planted("x", 0), tmp_path, exclude=["t"])
    assert found.drift is None
    assert moved(found) == {}
    assert "Over time" not in found.to_html()


def test_a_split_by_column_still_has_its_time(tmp_path: Path) -> None:
    data = planted("x", 0)
    data["part"] = np.array(["train", "train", "validation", "test"])[np.arange(2000) % 4]
    assert list(moved(profiled(data, tmp_path, time="t", split="part"))) == ["x"]


def test_a_column_that_counts_with_the_rows_is_told_once(tmp_path: Path) -> None:
    data = steady(0)
    data["t"] = np.sort(data["t"])
    found = profiled({**data, "row": np.arange(2000)}, tmp_path, time="t")
    assert [finding.kind for finding in found.findings if finding.column == "row"] == ["id_like"]


@pytest.mark.parametrize("sampled", [100_000, 1000])
def test_the_blocks_do_not_change_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampled: int) -> None:
    monkeypatch.setattr("mlcluster.data.profile_pass.SAMPLE_ROWS", sampled)
    found = [profiled(planted("word", 3), tmp_path, size=size, time="t").to_json()["drift"] for size in (2000, 300, 41)]
    assert found[0] == found[1] == found[2]
    total = sum(part["num_rows"] for part in found[0]["slices"])
    assert total == 2000 if sampled > 2000 else 900 < total < 1100


def test_the_index_is_that_of_a_hand_worked_example() -> None:
    """Shares .8/.2 and .5/.5 of 1,000 rows each: -.3 ln(.5/.8) + .3 ln(.5/.2) = 0.4159, less 2/1000."""
    first, second = np.array([800, 200]), np.array([500, 500])
    assert drift_module.stability_index(first, second) == pytest.approx(0.4159 - 0.002, abs=0.002)
    assert drift_module.stability_index(first, first) == 0.0


def test_slices_hold_equal_counts_and_part_no_moment() -> None:
    rng = np.random.default_rng(0)
    days = np.repeat(np.arange("2024-01-01", "2024-03-01", dtype="datetime64[D]"), 30)
    table = pa.table({"day": pa.array(days), "x": rng.normal(size=len(days))})
    found = measure_drift(table, "day", ["x"])
    assert found is not None
    sizes = [part.num_rows for part in found.slices]
    assert sum(sizes) == 1800
    assert set(sizes) == {210, 240}  # seven days or eight
    assert (found.slices[0].start, found.slices[0].stop) == ("2024-01-01", "2024-01-07")
    assert found.slices[1].start == "2024-01-08"
    assert measure_drift(table.slice(0, 150), "day", ["x"]) is None
    one_day = table.set_column(0, "day", pa.array(np.repeat(days[:1], len(days))))
    assert measure_drift(one_day, "day", ["x"]) is None


def test_page_and_json_show_every_column_over_the_slices(tmp_path: Path) -> None:
    found = profiled(planted("holes", 1), tmp_path, time="t")
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))["drift"]
    assert told["columns"][0]["name"] == "holes"
    shares = [part["missing_share"] for part in told["columns"][0]["slices"]]
    assert max(shares[:4]) < 0.1
    assert min(shares[5:]) > 0.2
    assert {column["name"] for column in told["columns"]} == set(steady(0)) - {"t"}
    page = found.to_html().partition("<h2>Over time</h2>")[2].partition("<h2>Columns</h2>")[0]
    assert page.count("<article>") == 8
    assert page.index(">holes<") < page.index(">x<")
    assert "share missing: " in page
    assert "over t, in 8 slices: holes moves most" in found.summary()


def test_a_column_without_a_value_is_shown_all_the_same(tmp_path: Path) -> None:
    data = steady(2)
    data["gone"] = np.where(data["t"] > 0.5e6, np.nan, data["x"])
    data["late"] = pa.array([None] * 1999 + ["z"], pa.string())
    found = profiled(data, tmp_path, time="t")
    assert "gone" in moved(found)
    assert ">late<" in found.to_html()
