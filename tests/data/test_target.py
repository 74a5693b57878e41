from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from mlcluster.data import TargetColumn, encode_target, infer_task
from mlcluster.data.target import target_partial
from mlcluster.errors import DataError
from mlcluster.spec import Task


def column(values: list[object], kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


def infer(values: list[object], kind: pa.DataType | None = None, task: Task | None = None) -> TargetColumn:
    array = column(values, kind)
    return infer_task("y", array.type, target_partial(array), task)


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (["yes", "no", "no", None], "binary", ("no", "yes")),
        ([True, False], "binary", (False, True)),
        ([1, 0, 1], "binary", (0, 1)),
        (["c", "a", "b"], "multiclass", ("a", "b", "c")),
        (list(range(20)), "multiclass", tuple(range(20))),
        (list(range(21)), "regression", ()),
        ([0.0, 1.0, float("nan")], "regression", ()),
    ],
)
def test_the_values_suggest_the_task(values: list[object], task: str, classes: tuple[object, ...]) -> None:
    target = infer(values)
    assert (target.task, target.classes) == (task, classes)


def test_the_task_that_is_asked_for_wins() -> None:
    assert infer([1, 2, 3], task="regression").task == "regression"
    assert infer([1.5, 2.5, 1.5], task="classification").classes == (1.5, 2.5)


def test_partials_of_blocks_add_up() -> None:
    parts = [target_partial(column(values)) for values in (["a", "b", None], ["b", "c"])]
    total = parts[0].merged(parts[1])
    assert total.counts == {"a": 1, "b": 2, "c": 1}
    assert (total.count, total.missing) == (4, 1)


@pytest.mark.parametrize(
    ("values", "task", "problem"),
    [
        ([None, None], None, "is missing in every row"),
        (["a", "a"], None, "has the one class 'a' in all 2 rows"),
        ([1, 1], "regression", "is 1 in every row"),
        (["a", "b"], "regression", "has type string, but data.task = regression needs numbers"),
        ([True, False], "regression", "needs numbers"),
        ([1.0, float("inf")], "regression", "is infinite in 1 rows"),
        ([float(i) for i in range(1001)], "classification", "more than 1000 distinct values"),
        ([[1], [2]], None, "neither class nor number"),
    ],
)
def test_a_target_that_cannot_be_learned_is_refused(values: list[object], task: Task | None, problem: str) -> None:
    kind = pa.string() if values[0] is None else None
    with pytest.raises(DataError, match=rf"^data\.target = y .*{problem}"):
        infer(values, kind, task)


def test_classes_become_their_index() -> None:
    target = TargetColumn(name="y", task="binary", classes=("no", "yes"))
    encoded = encode_target(column(["yes", "no", "yes"]), target)
    assert encoded.dtype == np.int64
    assert encoded.tolist() == [1, 0, 1]


def test_quantities_stay_float64() -> None:
    encoded = encode_target(column([1, 2]), TargetColumn(name="y", task="regression"))
    assert encoded.dtype == np.float64


def test_a_class_that_nobody_knows_is_refused() -> None:
    target = TargetColumn(name="y", task="binary", classes=("no", "yes"))
    with pytest.raises(DataError, match=r"data\.target = y holds 'maybe', which is no known class; use one of no, yes"):
        encode_target(column(["no", "maybe"]), target)
    with pytest.raises(DataError, match="is missing in 1 rows"):
        encode_target(column([1.0, None]), TargetColumn(name="y", task="regression"))
