"""The matrix of a few rows by plain arithmetic: numpy takes 15 microseconds however little it is given, this 5 a row.

The bits are those of `Transform.apply`: the same operations on the same float64 in the same order, rounded once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcluster.data import FeatureColumn, TableSchema, Transform
from mlcluster.data.transform import FLOAT32_MAX, CodedCategory, RawNumber, ScaledNumber

_EXACT = 1e15
"""Whole numbers up to here are exact in float64, and no sum or rounding of numbers up to here overflows."""
_NAN = float("nan")
_TYPES: Mapping[str, frozenset[type]] = {
    "number": frozenset({float, int}),
    "boolean": frozenset({bool}),
    "string": frozenset({str}),
    "whole": frozenset({int}),
}


class FewRows:
    """Made for one schema and one transform; `of` gives None where this arithmetic would not give the same bits."""

    def __init__(self, schema: TableSchema, transform: Transform) -> None:
        self._width = transform.num_outputs
        self._scaled: list[tuple[Any, ...]] = []
        self._raw: list[tuple[Any, ...]] = []
        self._categories: list[tuple[Any, ...]] = []
        for feature, column in zip(schema.features, transform.columns, strict=True):
            at = transform.feature_slices[feature.name].start
            low, high = _ends(feature)
            if isinstance(column, CodedCategory):
                codes: dict[Any, int] = column.code_by_level()
                flag_at = at + len(column.outputs) - 1 if column.with_indicator else None
                types = _TYPES["string" if feature.arrow_type == "string" else "whole"] | {type(None)}
                known = (codes.get, column.other_code, column.one_hot, flag_at)
                self._categories.append((feature.name, at, types, low, high, *known))
                continue
            types = _TYPES["boolean" if feature.kind == "boolean" else _number_kind(feature)]
            if isinstance(column, ScaledNumber):
                scaling = (column.fill, column.low, column.high, column.center, column.scale or np.inf)
                self._scaled.append(
                    (feature.name, at, types, low, high, *scaling, at + 1 if column.with_indicator else 0)
                )
            else:
                self._raw.append((feature.name, at, types, low, high))

    @classmethod
    def of(cls, schema: TableSchema, transform: Transform) -> FewRows | None:
        """None where a column is of 32 bits, which would have to be rounded first, or its scale overflows them."""
        pairs = zip(schema.features, transform.columns, strict=True)
        return cls(schema, transform) if all(_is_plain(feature, column) for feature, column in pairs) else None

    def encode(self, columns: Mapping[str, Any], num_rows: int) -> npt.NDArray[np.float32] | None:
        """The matrix (num_rows, outputs) of as many values by column; None where a value needs a second look."""
        rows = []
        for index in range(num_rows):
            row = [0.0] * self._width
            if not self._write_numbers(columns, index, row) or not self._write_categories(columns, index, row):
                return None
            rows.append(row)
        return np.array(rows, dtype=np.float32)

    def _write_numbers(self, columns: Mapping[str, Any], index: int, row: list[float]) -> bool:
        for name, at, types, lowest, highest, fill, low, high, center, scale, flag_at in self._scaled:
            value = columns[name][index]
            if value is None:
                value = fill
                if flag_at:
                    row[flag_at] = 1.0
            elif type(value) not in types or not lowest <= value <= highest:
                return False
            above = value if value > low else low
            row[at] = ((above if above < high else high) - center) / scale + 0.0
        for name, at, types, lowest, highest in self._raw:
            value = columns[name][index]
            if value is None:
                row[at] = _NAN
            elif type(value) in types and lowest <= value <= highest:
                row[at] = float(value)
            else:
                return False
        return True

    def _write_categories(self, columns: Mapping[str, Any], index: int, row: list[float]) -> bool:
        for name, at, types, lowest, highest, code_of, other, one_hot, flag_at in self._categories:
            value = columns[name][index]
            if type(value) not in types:
                return False
            code = code_of(value)
            if code is None:
                if type(value) is int and not lowest <= value <= highest:
                    return False
                code = other
            if one_hot:
                row[at + code] = 1.0
            else:
                row[at] = float(code)
            if flag_at is not None and value is None:
                row[flag_at] = 1.0
        return True


def _is_plain(feature: FeatureColumn, column: Any) -> bool:
    if feature.arrow_type == "float" or not isinstance(column, CodedCategory | RawNumber | ScaledNumber):
        return False
    if not isinstance(column, ScaledNumber) or not column.scale:
        return True
    farthest = max(abs(end - column.center) for end in (column.low, column.high, column.fill))
    return farthest / column.scale < FLOAT32_MAX / 2


def _number_kind(feature: FeatureColumn) -> str:
    return "number" if feature.arrow_type == "double" else "whole"


def _ends(feature: FeatureColumn) -> tuple[float, float]:
    if not feature.arrow_type.startswith(("int", "uint")):
        return -_EXACT, _EXACT
    info = np.iinfo(feature.arrow_type)
    return max(float(info.min), -_EXACT), min(float(info.max), _EXACT)
