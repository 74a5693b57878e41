from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcluster.data import FeatureColumn, ReferenceProfile, TableSchema, TargetColumn, answer_columns, reference_profile
from mlcluster.data.reference import ColumnReference, column_reference

VALUES = st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=60)


def of(values: list[object], *, is_number: bool = True) -> ColumnReference:
    found = column_reference("x", pa.chunked_array([pa.array(values)]), is_number=is_number)
    assert found is not None
    return found


@given(train=VALUES.filter(any), live=VALUES)
def test_every_value_falls_into_one_cell_and_train_values_into_none_of_the_outer_ones(train, live) -> None:
    column = of(train)
    assert sum(column.counts) == len(train)
    assert (column.counts[0], column.counts[-2]) == (0, 0)
    counts = column.count(pa.array(live, pa.float64()))
    assert len(counts) == len(column.cell_names()) == len(column.counts)
    present = [value for value in live if value is not None]
    low, high = (function(value for value in train if value is not None) for function in (min, max))
    outside = (sum(value < low for value in present), sum(value > high for value in present), len(live) - len(present))
    assert (counts[0], counts[-2], counts[-1]) == outside
    assert counts.sum() == len(live)


def test_bins_hold_as_many_train_rows_each() -> None:
    column = of(np.random.default_rng(0).normal(size=1_000).tolist())
    assert (len(column.counts), column.counts[0], column.counts[-2:]) == (13, 0, (0, 0))
    assert all(abs(count - 100) <= 1 for count in column.counts[1:11])
    assert column.cell_names()[0].startswith("<")


def test_levels_that_training_did_not_have_are_others_and_nulls_are_missing() -> None:
    column = of(["a", "b", "a", None], is_number=False)
    assert (column.levels, column.counts) == (("a", "b"), (2, 1, 0, 1))
    assert column.count(pa.array(["b", "new", None, "b", ""])).tolist() == [0, 2, 2, 1]
    assert column.cell_names() == ("a", "b", "other", "missing")


def test_booleans_and_whole_numbers_have_levels_too() -> None:
    assert of([True, False, True], is_number=False).count(pa.array([False, None, True])).tolist() == [1, 1, 0, 1]
    assert of([3, 4, 3], is_number=False).count(pa.array([4, 9], pa.int64())).tolist() == [0, 1, 1, 0]


def test_drift_is_nothing_for_the_same_distribution_and_large_for_another() -> None:
    rng = np.random.default_rng(1)
    column = of(rng.normal(size=5_000).tolist())
    same, moved = (column.count(pa.array(rng.normal(shift, size=2_000))) for shift in (0.0, 1.0))
    assert column.drift(same) < 0.01
    assert column.drift(moved) > 0.5
    assert column.drift(column.count(pa.array(rng.normal(size=99)))) is None


def test_a_column_without_values_has_no_cells() -> None:
    assert column_reference("x", pa.chunked_array([pa.nulls(3, pa.float64())]), is_number=True) is None


@pytest.mark.parametrize("classes", [("no", "yes"), (1, 2, 3), ()])
def test_a_profile_reads_back_equal_and_watches_answers(classes) -> None:
    target = TargetColumn(name="y", task="multiclass" if classes else "regression", classes=classes)
    feature = FeatureColumn(name="x", kind="number", arrow_type="double", has_missing=False)
    rng = np.random.default_rng(2)
    scores = rng.dirichlet(np.ones(len(classes)), 200) if classes else rng.normal(size=200)
    table = pa.table({"x": rng.normal(size=300)})
    profile = reference_profile(table, TableSchema(features=(feature,), target=target), answer_columns(scores, target))
    assert ReferenceProfile.from_json(json.loads(json.dumps(profile.to_json()))) == profile
    assert profile.num_rows == 300
    expected = {0: ["value"], 2: ["label", "probability_yes"], 3: ["label", *(f"probability_{c}" for c in (1, 2, 3))]}
    assert [column.name for column in profile.answers] == expected[len(classes)]
    assert all(sum(column.counts) == 200 for column in profile.answers)
