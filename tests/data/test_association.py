"""What a column tells of the target by itself: a number from 0 to 1, honest about columns that tell nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_tables import shared_data

from mlcluster.data import FeatureColumn, TargetColumn, profile
from mlcluster.data.association import Association, measure_association
from mlcluster.spec import DataSpec


def measured(columns: dict[str, Any], target: Any, classes: tuple[Any, ...] = ()) -> Association:
    table = pa.table({**columns, "y": target})
    task: Any = {0: "regression", 2: "binary"}.get(len(classes), "multiclass")
    features = [
        FeatureColumn(
            name=name,
            kind="category" if pa.types.is_string(table.schema.field(name).type) else "number",
            arrow_type=str(table.schema.field(name).type),
            has_missing=False,
        )
        for name in columns
    ]
    found = measure_association(table, features, TargetColumn(name="y", task=task, classes=classes))
    assert found is not None
    return found


def test_of_two_normals_apart_it_is_the_gini_that_is_known() -> None:
    """AUC = Phi(d / sqrt(2)), so that 2 AUC - 1 is 0.5205 for classes one deviation apart."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 20_000)
    found = measured({"x": rng.normal(size=20_000) + y}, y, (0, 1))
    assert found.values["x"] == pytest.approx(0.5205, abs=0.015)
    assert (found.measure, found.num_rows) == ("2 AUC - 1 of the column alone", 20_000)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_copy_tells_all_and_a_bent_relation_is_seen(task: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=4000)
    bent = np.abs(x)
    y = {"binary": (bent > 0.7).astype(int), "multiclass": np.digitize(bent, [0.4, 0.9]), "regression": bent}[task]
    classes = tuple(np.unique(y).tolist()) if task != "regression" else ()
    values = measured({"copy": y.astype(float), "x": x, "word": [f"w{v:.0f}" for v in 9 * bent]}, y, classes).values
    assert values["copy"] > 0.98
    assert values["x"] > 0.8
    assert values["word"] > 0.7


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_columns_without_meaning_stay_below_chance_19_times_of_20(task: str) -> None:
    above = total = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        y = {
            "binary": rng.integers(0, 2, 700),
            "multiclass": rng.integers(0, 5, 700),
            "regression": rng.normal(size=700),
        }
        classes = {"binary": (0, 1), "multiclass": (0, 1, 2, 3, 4), "regression": ()}[task]
        columns = {
            **{f"x{i}": rng.normal(size=700) for i in range(4)},
            **{f"few{i}": np.array(list("abcdef"))[rng.integers(0, 6, 700)] for i in range(3)},
            **{f"many{i}": np.array([f"l{v}" for v in rng.integers(0, 300, 700)]) for i in range(2)},
            "id": np.array([f"id{v}" for v in rng.permutation(700)]),
        }
        found = measured(columns, y[task], classes)
        assert found.values["id"] == 0.0
        above += sum(value > found.chance for value in found.values.values())
        total += len(found.values) - 1
    assert above / total < 0.07, above / total


def test_missing_values_count_as_what_they_say() -> None:
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, 2000)
    telling = np.where((y == 1) & (rng.random(2000) < 0.9), np.nan, rng.normal(size=2000))
    silent = np.where(rng.random(2000) < 0.9, np.nan, y.astype(float))
    values = measured({"telling": telling, "silent": silent}, y, (0, 1)).values
    assert values["telling"] > 0.85
    assert values["silent"] == pytest.approx(1 - 0.9**2, abs=0.04)  # of pairs, one row at least is known


def told(folder: Path, size: int, num_rows: int = 600) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    x = rng.normal(size=num_rows)
    y = (x + rng.normal(0, 1, num_rows) > 0).astype(int)
    word = np.array(["a", "b"])[rng.integers(0, 2, num_rows)]
    pq.write_table(pa.table({"word": word, "x": x, "y": y}), folder / "t.parquet", row_group_size=size)
    found = profile(DataSpec(source="t.parquet", target="y"), base=folder)
    value: dict[str, Any] = json.loads(json.dumps(found.to_json()))
    value["page"], value["text"] = found.to_html(), found.summary()
    return value


def test_the_profile_has_it_as_json_text_and_sorted_bars(tmp_path: Path) -> None:
    found = told(tmp_path, 600)
    values = found["association"]["values"]
    assert [column["association"] for column in found["columns"]] == [values["word"], values["x"], None]
    assert values["x"] > 0.5 > found["association"]["chance"] > values["word"]
    bars = found["page"].partition("What tells the target")[2]
    assert 0 < bars.index(">x</span>") < bars.index(">word</span>")
    assert "2 AUC - 1 of the column alone" in found["text"]


@pytest.mark.parametrize("num_rows", [600, 3000])
def test_the_blocks_do_not_change_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_rows: int) -> None:
    monkeypatch.setattr("mlcluster.data.profile_pass.SAMPLE_ROWS", 1000)
    found = [told(tmp_path, size, num_rows)["association"] for size in (3000, 700, 37)]
    assert found[0] == found[1] == found[2]
    assert found[0]["num_rows"] < min(num_rows, 1100)


def test_what_tells_most_of_real_tables_is_known() -> None:
    base = shared_data()
    bank = profile(DataSpec(source="bank_marketing.parquet", target="y"), base=base).association
    assert bank is not None and max(bank.values, key=bank.values.__getitem__) == "duration"
    assert bank.values["duration"] == pytest.approx(2 * 0.818 - 1, abs=0.02)
    adult = profile(DataSpec(source="adult.parquet", target="income", split={"column": "split"}), base=base).association  # type: ignore[arg-type]
    assert adult is not None and max(adult.values, key=adult.values.__getitem__) == "relationship"
