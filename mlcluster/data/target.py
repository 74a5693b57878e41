"""What kind of answer is learned: the task, its classes, and the target as numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlcluster.data.schema import Label, TargetColumn
from mlcluster.data.transform import dictionary_of, numbers_of
from mlcluster.errors import DataError
from mlcluster.spec import Task

# Above this many distinct whole numbers a target is taken for a quantity.
_MAX_INFERRED_CLASSES = 20
_MAX_CLASSES = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetPartial:
    """What one block says about the target. `counts` is None beyond 1,000 distinct values."""

    count: int
    missing: int
    infinite: int
    counts: dict[Label, int] | None = field(default_factory=dict)

    def merged(self, other: TargetPartial) -> TargetPartial:
        """Both together."""
        counts: dict[Label, int] | None = None
        if self.counts is not None and other.counts is not None:
            counts = dict(self.counts)
            for label, count in other.counts.items():
                counts[label] = counts.get(label, 0) + count
        return TargetPartial(
            count=self.count + other.count,
            missing=self.missing + other.missing,
            infinite=self.infinite + other.infinite,
            counts=counts if counts is not None and len(counts) <= _MAX_CLASSES else None,
        )


def target_partial(column: pa.ChunkedArray) -> TargetPartial:
    """The partial of one block's target column; NaN is missing."""
    is_missing = missing_mask(column)
    infinite = 0
    if pa.types.is_floating(column.type):
        infinite = int(np.isinf(numbers_of(column)).sum())
    present = column.filter(pa.array(~is_missing))
    counts: dict[Label, int] | None = None
    if not pa.types.is_nested(column.type):
        counted = pc.value_counts(present.combine_chunks()).to_pylist() if len(present) else []
        counts = {entry["values"]: entry["counts"] for entry in counted} if len(counted) <= _MAX_CLASSES else None
    return TargetPartial(count=len(present), missing=int(is_missing.sum()), infinite=infinite, counts=counts)


def missing_mask(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Where the value is null or NaN, (n,)."""
    return np.asarray(pc.is_null(column, nan_is_null=True).to_numpy(), dtype=np.bool_)


def infer_task(name: str, kind: pa.DataType, partial: TargetPartial, task: Task | None) -> TargetColumn:
    """The target column, with the task that was asked for or, without one, that its values suggest.

    Strings, booleans and up to 20 whole numbers are classes; other numbers are a quantity.

    Raises:
        DataError: the column is empty, of one class, or of a type that the task cannot take.
    """
    if not partial.count:
        raise DataError(f"data.target = {name} is missing in every row; name a column that holds the answer.")
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    is_whole = pa.types.is_integer(kind)
    is_number = is_whole or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if not (is_text or is_number or pa.types.is_boolean(kind)):
        raise DataError(f"data.target = {name} has type {kind}, which is neither class nor number; convert it.")
    if task is None:
        few = partial.counts is not None and len(partial.counts) <= _MAX_INFERRED_CLASSES
        task = "classification" if not is_number or (is_whole and few) else "regression"
    if task == "regression":
        return _regression(name, kind, partial, is_number=is_number)
    return _classification(name, kind, partial)


def _regression(name: str, kind: pa.DataType, partial: TargetPartial, *, is_number: bool) -> TargetColumn:
    if not is_number:
        raise DataError(
            f"data.target = {name} has type {kind}, but data.task = regression needs numbers; "
            "set task: classification or name a number column."
        )
    if partial.infinite:
        raise DataError(f"data.target = {name} is infinite in {partial.infinite} rows; remove those rows.")
    if partial.counts is not None and len(partial.counts) == 1:
        value = next(iter(partial.counts))
        raise DataError(f"data.target = {name} is {value} in every row; name a column that varies.")
    return TargetColumn(name=name, task="regression")


def _classification(name: str, kind: pa.DataType, partial: TargetPartial) -> TargetColumn:
    if partial.counts is None:
        raise DataError(
            f"data.target = {name} has more than {_MAX_CLASSES} distinct values of type {kind}; "
            "set task: regression or name a column of classes."
        )
    if len(partial.counts) == 1:
        only = next(iter(partial.counts))
        raise DataError(
            f"data.target = {name} has the one class {only!r} in all {partial.count} rows; name a column that varies."
        )
    labels: list[Any] = list(partial.counts)
    classes = tuple(sorted(labels if not pa.types.is_decimal(kind) else [float(label) for label in labels]))
    return TargetColumn(name=name, task="binary" if len(classes) == 2 else "multiclass", classes=classes)


def encode_target(column: pa.ChunkedArray, target: TargetColumn) -> npt.NDArray[np.int64] | npt.NDArray[np.float64]:
    """Class indices int64, or values float64, (n,).

    Raises:
        DataError: a value is missing, or is no known class.
    """
    if target.task == "regression":
        values = numbers_of(column)
        if np.isnan(values).any():
            raise DataError(
                f"data.target = {target.name} is missing in {int(np.isnan(values).sum())} rows; fill it in."
            )
        return values
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    index = {label: position for position, label in enumerate(target.classes)}
    encoded = dictionary_of(column)
    levels = encoded.dictionary.to_pylist()
    table = np.array([*(index.get(level, -1) for level in levels), -1], dtype=np.int64)
    codes = np.asarray(table[pc.fill_null(encoded.indices, len(levels)).to_numpy(zero_copy_only=False)])
    if (codes < 0).any():
        value = column[int(np.argmax(codes < 0))].as_py()
        known = ", ".join(map(str, target.classes[:10]))
        raise DataError(f"data.target = {target.name} holds {value!r}, which is no known class; use one of {known}.")
    return codes
