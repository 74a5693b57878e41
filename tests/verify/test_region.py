"""The box of a row holds every input that its raw values can become, and no more than its corners reach."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcluster.data import FeatureColumn, TableSchema, TargetColumn, Transform
from mlcluster.data.transform import CodedCategory, RawNumber, ScaledNumber
from mlcluster.errors import DataError
from mlcluster.verify import number_scales
from mlcluster.verify.region import reachable_boxes

JOB = CodedCategory(name="job", levels=("a", "b"), codes=(0, 1), other_code=2, missing_code=2, one_hot=False)
ORDINAL = Transform(encoding="ordinal", columns=(RawNumber(name="age"), RawNumber(name="pay"), JOB))
DENSE = Transform(
    encoding="dense",
    columns=(
        ScaledNumber(name="age", fill=40, low=20, high=70, center=40, scale=10, with_indicator=True),
        ScaledNumber(name="pay", fill=1e3, low=0, high=1e4, center=2e3, scale=500, with_indicator=False),
        CodedCategory(name="job", levels=("a", "b"), codes=(0, 1), other_code=2, missing_code=2, one_hot=True),
    ),
)
SCALES = {"age": 10.0, "pay": 500.0}


def table(ages: list[int | None], pays: list[float | None]) -> pa.Table:
    columns = {"age": pa.array(ages, pa.int64()), "pay": pa.array(pays, pa.float64()), "job": ["a"] * len(ages)}
    return pa.table(columns)


@settings(max_examples=50, deadline=None)
@given(
    age=st.integers(0, 100), pay=st.floats(-1e5, 1e5), eps=st.floats(0, 3), seed=st.integers(0, 1000),
    transform=st.sampled_from([ORDINAL, DENSE]),
)  # fmt: skip
def test_raw_values_that_move_by_eps_stay_in_the_box(
    age: int, pay: float, eps: float, seed: int, transform: Transform
) -> None:
    boxes = reachable_boxes(table([age], [pay]), transform, SCALES, eps)
    shares = np.random.default_rng(seed).uniform(-1, 1, (2, 50))
    shares[:, :4] = [[-1, -1, 1, 1], [-1, 1, -1, 1]]
    moved = {
        "age": age + shares[0] * (eps * 10.0),
        "pay": pay + shares[1] * (eps * 500.0),
        "job": ["a"] * 50,
    }
    inputs = transform.apply(pa.table(moved))
    assert (inputs >= boxes.lower).all()
    assert (inputs <= boxes.upper).all()


def test_numbers_move_by_standard_deviations_and_nothing_else_moves() -> None:
    boxes = reachable_boxes(table([40], [2000.0]), DENSE, SCALES, 0.1)
    assert boxes.upper[0] - boxes.center[0] == pytest.approx([0.1, 0, 0.1, 0, 0, 0], abs=1e-6)
    boxes = reachable_boxes(table([40], [2000.0]), ORDINAL, SCALES, 0.1)
    assert boxes.center[0] - boxes.lower[0] == pytest.approx([1, 50, 0])


def test_a_missing_value_stays_missing() -> None:
    boxes = reachable_boxes(table([None], [None]), ORDINAL, SCALES, 0.1)
    assert np.isnan(boxes.lower[0, :2]).all()
    assert np.isnan(boxes.upper[0, :2]).all()
    boxes = reachable_boxes(table([None], [None]), DENSE, SCALES, 0.1)
    assert (boxes.lower == boxes.upper).all()


def test_a_value_beyond_the_clip_only_moves_where_the_model_sees_it() -> None:
    boxes = reachable_boxes(table([90], [2000.0]), DENSE, SCALES, 0.1)
    assert boxes.lower[0, 0] == boxes.upper[0, 0] == 3.0


def test_scales_are_those_of_number_columns_only() -> None:
    kinds = {"age": "number", "pay": "boolean", "job": "category"}
    features = tuple(FeatureColumn(name=n, kind=k, arrow_type="double", has_missing=False) for n, k in kinds.items())
    schema = TableSchema(features=features, target=TargetColumn(name="y", task="binary", classes=(0, 1)))
    assert number_scales(DENSE, schema) == {"age": 10.0}
    with pytest.raises(DataError, match="transform = ordinal knows no standard deviations"):
        number_scales(ORDINAL, schema)
