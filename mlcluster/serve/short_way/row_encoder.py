"""From the values of a request to the model's matrix, without a table in between, for requests that are plainly valid.

The matrix has the bits that `columns_to_table` and `Transform.apply` give. Whatever is not plain (a value of another
type, a number out of range, a rule of `data.expect` that is broken, a column too many) gives None, and the careful way
says what is wrong with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlcluster.data import FeatureColumn, TableSchema, Transform
from mlcluster.data.transform import CodedCategory, NumberWriter
from mlcluster.serve.column_stack import ColumnStack
from mlcluster.serve.short_way.few_rows import FewRows
from mlcluster.serve.tensors import listed, packed_doubles
from mlcluster.spec import Expectation

_EXACT = float(2**53)
"""Whole numbers above are not all float64."""
_INTEGERS: Mapping[str, tuple[float, float]] = {
    **{
        f"int{bits}": (max(-(2.0 ** (bits - 1)), -_EXACT), min(2.0 ** (bits - 1) - 1, _EXACT))
        for bits in (8, 16, 32, 64)
    },
    **{f"uint{bits}": (0.0, min(2.0**bits - 1, _EXACT)) for bits in (8, 16, 32, 64)},
}
_SINGLE_MAX = float(np.finfo(np.float32).max)
_FLOATS: Mapping[str, tuple[float, float]] = {"float": (-_SINGLE_MAX, _SINGLE_MAX), "double": (-np.inf, np.inf)}
_ENDS = {**_INTEGERS, **_FLOATS}
_FEW_VALUES = 32
_NUMBER_TYPES = frozenset({float, int, type(None)})
_BOOLEAN_TYPES = frozenset({bool, type(None)})
_Values = Sequence[Any] | npt.NDArray[Any]
_Check = Callable[[_Values], bool]


class Encoded(NamedTuple):
    """Rows as the model takes them, and their raw numbers where they have been put together on the way."""

    matrix: npt.NDArray[np.float32]
    """(rows, outputs)."""
    doubles: npt.NDArray[np.float64] | None
    """(columns, rows): those of floating point, in the schema's order; NaN is missing."""


class RowEncoder:
    """Made for one schema and one transform; `of` gives None where they have columns that it cannot take."""

    def __init__(self, schema: TableSchema, transform: Transform) -> None:
        by_name = {column.name: column for column in schema.features}
        kinds = dict(zip(by_name, transform.columns, strict=True))
        self._width = transform.num_outputs
        self._num_columns = len(by_name)
        numbers = [column for column in transform.columns if not isinstance(column, CodedCategory)]
        self._writer = NumberWriter(numbers, [transform.feature_slices[column.name].start for column in numbers])
        self._numeric = [name for name in self._writer.names if by_name[name].kind == "number"]
        self._names = tuple(self._numeric)
        self._boolean = [name for name in self._writer.names if by_name[name].kind == "boolean"]
        # Numbers first, booleans after them, and then in the order of the writer.
        stacked = {name: at for at, name in enumerate((*self._numeric, *self._boolean))}
        self._order = np.array([stacked[name] for name in self._writer.names], dtype=np.intp)
        self._is_ordered = bool((self._order == np.arange(len(self._order))).all())
        self._doubles = np.array(
            [at for at, name in enumerate(self._numeric) if by_name[name].arrow_type in _FLOATS], dtype=np.intp
        )
        self._ranges = _Ranges([by_name[name].arrow_type for name in self._numeric])
        self._categories = [
            _Category(column, kinds[column.name], transform.feature_slices[column.name].start)
            for column in schema.features
            if isinstance(kinds[column.name], CodedCategory)
        ]
        self._few = FewRows.of(schema, transform)
        self._checks = [(name, check) for name, rule in schema.expect.items() for check in _checks(rule)]

    @classmethod
    def of(cls, schema: TableSchema, transform: Transform) -> RowEncoder | None:
        """The encoder of rows with these columns; None where there are images, decimals or other types of text."""
        plain = {"number": {*_FLOATS, *_INTEGERS}, "category": {"string", *_INTEGERS}, "boolean": {"bool"}}
        if all(column.arrow_type in plain.get(column.kind, ()) for column in schema.features):
            return cls(schema, transform)
        return None

    def encode(self, columns: Mapping[str, _Values], num_rows: int) -> Encoded | None:
        """The matrix of `num_rows` values by column, None for missing; or None, see the module.

        A column may be an array in which NaN is missing.
        """
        if len(columns) != self._num_columns:
            return None
        if self._checks:
            columns = {name: _as_list(values) for name, values in columns.items()}
        try:
            if not isinstance(columns, ColumnStack) and {*map(len, columns.values())} != {num_rows}:
                return None
            for name, check in self._checks:
                if not check(columns[name]):
                    return None
            if self._few is not None and num_rows * self._num_columns <= _FEW_VALUES:
                few = self._few.encode(columns, num_rows)
                if few is not None:
                    return Encoded(few, None)
            doubles = None
            matrix = np.zeros((num_rows, self._width), dtype=np.float32)
            if self._order.size:
                numbers = self._stacked(columns, num_rows)
                if numbers is None:
                    return None
                # A copy: what is written for trees is clipped in place.
                doubles = numbers[self._doubles]
                self._writer.write(self._in_order(numbers), matrix)
            if all(category.write(columns, matrix) for category in self._categories):
                return Encoded(matrix, doubles)
        except (KeyError, TypeError, ValueError, OverflowError):
            pass
        return None

    def _stacked(self, columns: Mapping[str, _Values], num_rows: int) -> npt.NDArray[np.float64] | None:
        """The values of all number columns, (columns, num_rows), those of booleans last; None where they do not fit."""
        if isinstance(columns, ColumnStack) and columns.names == self._names:
            values = columns.doubles()
            return None if np.isinf(values).any() or not self._ranges.hold(values) else values
        if not self._boolean and all(isinstance(columns[name], np.ndarray) for name in self._numeric):
            values = np.array([columns[name] for name in self._numeric], dtype=np.float64)
            return None if np.isinf(values).any() or not self._ranges.hold(values) else values
        columns = {name: _as_list(columns[name]) for name in self._writer.names}
        flat = [*chain.from_iterable([columns[name] for name in self._numeric])]
        booleans = [*chain.from_iterable([columns[name] for name in self._boolean])]
        if not _NUMBER_TYPES.issuperset(map(type, flat)) or not _BOOLEAN_TYPES.issuperset(map(type, booleans)):
            return None
        try:
            total = sum(flat)
        except TypeError:
            total = sum([value for value in flat if value is not None])
        # What is not finite, or adds up to what is not, is for the careful to judge.
        if not math.isfinite(total):
            return None
        values = packed_doubles(flat + booleans).reshape(-1, num_rows)
        return values if self._ranges.hold(values) else None

    def _in_order(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Columns by row, in the order of the writer."""
        return values.T if self._is_ordered else values[self._order].T


class _Ranges:
    """Which rows of a stack must be whole numbers, which are rounded to 32 bits, and between which ends."""

    def __init__(self, arrow_types: Sequence[str]) -> None:
        self._narrow = np.array([at for at, kind in enumerate(arrow_types) if kind != "double"], dtype=np.intp)
        kinds = [arrow_types[at] for at in self._narrow]
        ends = np.array([_ENDS[kind] for kind in kinds], dtype=np.float64).reshape(-1, 2, 1)
        self._low, self._high = ends[:, 0], ends[:, 1]
        self._is_whole = np.array([[kind in _INTEGERS] for kind in kinds], dtype=np.bool_)
        self._whole = np.array([at for at, kind in enumerate(arrow_types) if kind in _INTEGERS], dtype=np.intp)
        self._single = np.array([at for at, kind in enumerate(arrow_types) if kind == "float"], dtype=np.intp)

    def hold(self, values: npt.NDArray[np.float64]) -> bool:
        """Whether all values fit; those of 32 bits are rounded in place, and -0.0 is 0 where it is a whole number."""
        if self._narrow.size:
            narrow = values[self._narrow]
            fits = (narrow >= self._low) & (narrow <= self._high)
            fits &= ~self._is_whole | (narrow == np.trunc(narrow))
            if not (fits | np.isnan(narrow)).all():
                return False
        if self._whole.size:
            values[self._whole] += 0.0
        if self._single.size:
            values[self._single] = values[self._single].astype(np.float32)
        return True


class _Category:
    """One column of categories, looked up value by value."""

    def __init__(self, column: FeatureColumn, encoding: Any, start: int) -> None:
        self.name = column.name
        self._codes: dict[Any, int] = encoding.code_by_level()
        self._other = encoding.other_code
        self._start = start
        self._one_hot = encoding.one_hot
        self._indicator = start + len(encoding.outputs) - 1 if encoding.with_indicator else None
        self._types = frozenset({str if column.arrow_type == "string" else int, type(None)})
        self._ends = _INTEGERS.get(column.arrow_type)

    def write(self, columns: Mapping[str, _Values], matrix: npt.NDArray[np.float32]) -> bool:
        values = _as_list(columns[self.name])
        if not self._types.issuperset(map(type, values)) or not self._fit(values):
            return False
        known, other, start = self._codes, self._other, self._start
        if self._one_hot:
            for row, value in enumerate(values):
                matrix[row, start + known.get(value, other)] = 1.0
        else:
            matrix[:, start] = [known.get(value, other) for value in values]
        if self._indicator is not None:
            matrix[:, self._indicator] = [value is None for value in values]
        return True

    def _fit(self, values: _Values) -> bool:
        if self._ends is None:
            return True
        low, high = self._ends
        return all(value is None or low <= value <= high for value in values)


def _as_list(values: Any) -> _Values:
    return listed(values) if isinstance(values, np.ndarray) else values


def _checks(rule: Expectation) -> list[_Check]:
    """Whether values, one by one, keep the rule. None is missing, which only `not_null` minds."""
    found: list[_Check] = []
    if rule.not_null:
        found.append(lambda values: None not in values)
    if (low := rule.min) is not None:
        found.append(lambda values: all(value is None or value >= low for value in values))
    if (high := rule.max) is not None:
        found.append(lambda values: all(value is None or value <= high for value in values))
    if rule.one_of is not None:
        # True equals 1, and is another value all the same.
        allowed = {(isinstance(value, bool), value) for value in rule.one_of}
        found.append(
            lambda values: all(value is None or (isinstance(value, bool), value) in allowed for value in values)
        )
    return found
