"""What the model was trained on, in few numbers a column: cells to count live values into, and train rows by cell.

A number has bins that hold about as many train rows each, with a cell below the smallest and one above the largest
train value; a category a cell for each of its most frequent levels and one for all others. Missing values have a cell
in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlcluster.data.cells import level_codes, number_codes
from mlcluster.data.drift import stability_index
from mlcluster.data.schema import TableSchema, TargetColumn
from mlcluster.data.transform import numbers_of

_NUM_BINS, _MAX_LEVELS = 10, 100
_MAX_CLASSES = 10
LABEL = "label"
_MIN_ROWS = 100
"""With fewer live rows the index says more about chance than about drift."""
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnReference:
    """One column; `edges` are of a number and `levels` of anything else, and the other one is empty.

    Cells of a number: below the first edge, between each two (the upper one included), above the last, missing. Of a
    category: each level, all others, missing.
    """

    name: str
    edges: tuple[float, ...] = ()
    levels: tuple[str | int | bool, ...] = ()
    counts: tuple[int, ...]
    """Train rows by cell."""

    @property
    def num_cells(self) -> int:
        return len(self.counts)

    def cell_names(self) -> tuple[str, ...]:
        """Of each cell, as a person reads it."""
        if not self.edges:
            return (*(str(level) for level in self.levels), "other", "missing")
        between = [f"{low:.6g}..{high:.6g}" for low, high in zip(self.edges, self.edges[1:], strict=False)]
        return (f"<{self.edges[0]:.6g}", *between, f">{self.edges[-1]:.6g}", "missing")

    def count(self, values: pa.Array) -> Counts:
        """How many of `values` fall into each cell, (num_cells,)."""
        if self.edges:
            return _number_counts(numbers_of(pa.chunked_array([values])), self.edges)
        known = pc.index_in(values, value_set=pa.array(self.levels, values.type))
        counts = np.bincount(known.fill_null(len(self.levels)).to_numpy(), minlength=len(self.levels) + 2)
        counts[-2] -= values.null_count
        counts[-1] = values.null_count
        return counts.astype(np.int64)

    def drift(self, counts: Counts) -> float | None:
        """The population stability index of live counts against those of training; None of too few rows."""
        if counts.sum() < _MIN_ROWS:
            return None
        return stability_index(np.array(self.counts, dtype=np.int64), counts)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceProfile:
    """Every feature that has cells, and the model's own answers on rows that it was not trained on."""

    num_rows: int
    """Of the train split."""
    features: tuple[ColumnReference, ...]
    answers: tuple[ColumnReference, ...] = ()
    """Of `label` and `probability_CLASS`, or of `value`."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` gives an equal profile."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ReferenceProfile:
        columns = {name: tuple(map(_column_from_json, value[name])) for name in ("features", "answers")}
        return cls(num_rows=value["num_rows"], **columns)


def reference_profile(table: pa.Table, schema: TableSchema, answers: pa.Table) -> ReferenceProfile:
    """Of train rows and of what `answer_columns` makes of a model's answers; a column of images has no cells."""
    names = {feature.name: feature.kind == "number" for feature in schema.features if feature.kind != "image"}
    features = [column_reference(name, table.column(name), is_number=is_number) for name, is_number in names.items()]
    answered = [column_reference(name, answers.column(name), is_number=name != LABEL) for name in answers.column_names]
    return ReferenceProfile(
        num_rows=table.num_rows,
        features=tuple(column for column in features if column is not None),
        answers=tuple(column for column in answered if column is not None),
    )


def answer_columns(scores: npt.NDArray[np.float64], target: TargetColumn) -> pa.Table:
    """The columns in which answers are watched, from probabilities (n, k) or values (n,).

    Of two classes the probability of the second says all; of many, the first ones are enough to see a shift.
    """
    if not target.classes:
        return pa.table({"value": pa.array(scores)})
    labels = pa.array(target.classes).take(pa.array(scores.argmax(axis=1)))
    watched = range(len(target.classes))[1:] if len(target.classes) == 2 else range(len(target.classes))[:_MAX_CLASSES]
    return pa.table(
        {LABEL: labels, **{f"probability_{target.classes[code]}": pa.array(scores[:, code]) for code in watched}}
    )


def column_reference(name: str, column: pa.ChunkedArray, *, is_number: bool) -> ColumnReference | None:
    """The cells of one column; None where all of its values are missing."""
    if column.null_count == len(column):
        return None
    if not is_number:
        codes, levels = level_codes(column, _MAX_LEVELS)
        counts = np.bincount(codes, minlength=len(levels) + 2)
        return ColumnReference(name=name, levels=_plain_levels(levels), counts=tuple(counts.tolist()))
    values = numbers_of(column)
    present = values[np.isfinite(values)]
    if not len(present):
        return None
    ends = number_codes(present, _NUM_BINS)[1]
    smallest, largest = float(present.min()), float(present.max())
    edges = (float(np.nextafter(smallest, -np.inf)), *ends.tolist(), largest)
    return ColumnReference(name=name, edges=edges, counts=tuple(_number_counts(values, edges).tolist()))


def _number_counts(values: npt.NDArray[np.float64], edges: Sequence[float]) -> Counts:
    # NaN is placed behind the last edge.
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 2)
    num_missing = int(np.isnan(values).sum())
    counts[-2] -= num_missing
    counts[-1] = num_missing
    return counts.astype(np.int64)


def _plain_levels(levels: Sequence[object]) -> tuple[str | int | bool, ...]:
    return tuple(level if isinstance(level, str | int | bool) else str(level) for level in levels)


def _column_from_json(value: Mapping[str, Any]) -> ColumnReference:
    lists = {name: tuple(value[name]) for name in ("edges", "levels", "counts")}
    return ColumnReference(name=value["name"], **lists)
