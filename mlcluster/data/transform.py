"""From raw columns to the float32 matrix that a model takes: fitted once, applied everywhere to the same bits.

A transform is plain numbers and names. It works value by value, so that a row alone and a row in a batch give the
same bits, in training, in batch prediction and in serving. The two encodings share their code: a category is a code
either way, which `ordinal` writes as a number and `dense` as one hot column.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlcluster.data.images import ImagePixels
from mlcluster.errors import DataError

Encoding = Literal["ordinal", "dense", "mixed"]
ENCODINGS: tuple[Encoding, ...] = ("ordinal", "dense")
"""Those that the built-in families take, and that a snapshot holds."""
ALL_ENCODINGS: tuple[Encoding, ...] = (*ENCODINGS, "mixed")
Level = str | int

FLOAT32_MAX = float(np.finfo(np.float32).max)
# Up to here a dictionary look-up a value beats dictionary-encoding the column (a few microseconds a call).
_FEW_ROWS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class RawNumber:
    """A number or boolean as it is, missing as NaN."""

    name: str
    kind: Literal["raw_number"] = "raw_number"

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.name,)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaledNumber:
    """(clip(value or fill, low, high) - center) / scale, and a column that says 1 where the value is missing."""

    name: str
    fill: float
    low: float
    high: float
    center: float
    scale: float
    """0 for a column that is constant on train: its output is 0."""
    with_indicator: bool
    kind: Literal["scaled_number"] = "scaled_number"

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.name, f"{self.name}:missing") if self.with_indicator else (self.name,)


@dataclass(frozen=True, kw_only=True, slots=True)
class CodedCategory:
    """Codes 0 to `num_codes` - 1: one a kept level, one for every other level, and one for missing if train had it."""

    name: str
    levels: tuple[Level, ...]
    codes: tuple[int, ...]
    other_code: int
    missing_code: int
    """Equal to `other_code` when train had no missing value, and to the most frequent level's where that is imputed."""
    one_hot: bool
    with_indicator: bool = False
    kind: Literal["category"] = "category"

    @property
    def num_codes(self) -> int:
        return max(*self.codes, self.other_code, self.missing_code) + 1 if self.codes else self.missing_code + 1

    @property
    def outputs(self) -> tuple[str, ...]:
        indicator = (f"{self.name}:missing",) if self.with_indicator else ()
        if not self.one_hot:
            return (self.name, *indicator)
        labels: dict[int, str] = {self.missing_code: "<missing>", self.other_code: "<other>"}
        labels |= {code: str(level) for level, code in zip(self.levels, self.codes, strict=True)}
        return (*(f"{self.name}={labels[code]}" for code in range(self.num_codes)), *indicator)


ColumnEncoding = RawNumber | ScaledNumber | CodedCategory | ImagePixels
_KINDS: Mapping[str, Callable[..., ColumnEncoding]] = {
    "raw_number": RawNumber,
    "scaled_number": ScaledNumber,
    "category": CodedCategory,
    "image": ImagePixels,
}


@dataclass(frozen=True, kw_only=True)
class Transform:
    """The fitted preprocessing. `columns` stand in the order of the schema's features."""

    encoding: Encoding
    columns: tuple[ColumnEncoding, ...]

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        return tuple(name for column in self.columns for name in column.outputs)

    @cached_property
    def num_outputs(self) -> int:
        return len(self.output_names)

    @cached_property
    def feature_slices(self) -> Mapping[str, slice]:
        """Which output columns each feature fills."""
        slices, start = {}, 0
        for column in self.columns:
            slices[column.name] = slice(start, start + len(column.outputs))
            start += len(column.outputs)
        return slices

    def apply(self, table: pa.Table) -> npt.NDArray[np.float32]:
        """The matrix (n, num_outputs), C-contiguous, of a table with n rows; extra columns are ignored.

        Raises:
            DataError: a feature column is absent, or holds values of another kind.
        """
        matrix = np.zeros((table.num_rows, self.num_outputs), dtype=np.float32)
        if not table.num_rows:
            return matrix
        positions = {name: index for index, name in enumerate(table.schema.names)}
        numbers = [_numbers(_column(table, positions, name)) for name in self._numbers.names]
        if numbers:
            self._numbers.write(np.column_stack(numbers), matrix)
        for category, lookup, start in self._categories:
            column = _column(table, positions, category.name)
            codes = lookup.codes(column)
            if category.one_hot:
                matrix[np.arange(len(codes)), start + codes] = 1.0
            else:
                matrix[:, start] = codes
            if category.with_indicator:
                matrix[:, start + len(category.outputs) - 1] = column.is_null()
        for image in self._images:
            matrix[:, self.feature_slices[image.name]] = image.values(_column(table, positions, image.name))
        return matrix

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` gives an equal transform."""
        columns = [asdict(column) for column in self.columns]
        for column in columns:
            column |= {key: list(value) for key, value in column.items() if isinstance(value, tuple)}
        return {"encoding": self.encoding, "columns": columns}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Transform:
        """The transform that `to_json` wrote.

        Raises:
            DataError: the JSON is no transform.
        """
        try:
            columns = tuple(_column_from_json(column) for column in value["columns"])
            if value["encoding"] not in ALL_ENCODINGS:
                raise KeyError(value["encoding"])  # noqa: TRY301  # told as one error with the other damages
            return cls(encoding=value["encoding"], columns=columns)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"transform = {str(value)[:60]} is no fitted transform ({error}); fit it again.") from error

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def _numbers(self) -> NumberWriter:
        numbers = [column for column in self.columns if isinstance(column, RawNumber | ScaledNumber)]
        return NumberWriter(numbers, [self.feature_slices[column.name].start for column in numbers])

    @cached_property
    def _images(self) -> tuple[ImagePixels, ...]:
        return tuple(column for column in self.columns if isinstance(column, ImagePixels))

    @cached_property
    def _categories(self) -> tuple[tuple[CodedCategory, CodeLookup, int], ...]:
        return tuple(
            (column, CodeLookup(column), self.feature_slices[column.name].start)
            for column in self.columns
            if isinstance(column, CodedCategory)
        )


class NumberWriter:
    """All number columns at once: a row costs a handful of numpy calls, not a handful a column."""

    def __init__(self, columns: list[Any], starts: list[int]) -> None:
        self.names = tuple(column.name for column in columns)
        self._targets = np.array(starts, dtype=np.intp)
        self._is_scaled = bool(columns) and isinstance(columns[0], ScaledNumber)
        if self._is_scaled:
            self._fill, self._low, self._high, self._center = (
                np.array([getattr(column, key) for column in columns]) for key in ("fill", "low", "high", "center")
            )
            self._scale = np.array([column.scale or np.inf for column in columns])
            self._with_indicator = np.array([column.with_indicator for column in columns])
            ends = np.abs((np.stack([self._low, self._high]) - self._center) / self._scale)
            self._fits_float32 = bool((ends <= FLOAT32_MAX).all())

    def write(self, values: npt.NDArray[np.float64], matrix: npt.NDArray[np.float32]) -> None:
        """Fill the number columns of `matrix` (n, num_outputs), which is zero, from raw `values` (n, columns)."""
        is_missing = np.isnan(values)
        if not self._is_scaled:
            # Not `np.clip`: for few rows the ufuncs take a third of its time.
            np.maximum(values, -FLOAT32_MAX, out=values)
            np.minimum(values, FLOAT32_MAX, out=values)
            values[is_missing] = np.nan  # one of the many that there are
            matrix[:, self._targets] = values
            return
        if has_missing := is_missing.any():
            values = np.where(is_missing, self._fill, values)
        scaled = np.maximum(values, self._low)
        np.minimum(scaled, self._high, out=scaled)
        scaled -= self._center
        scaled /= self._scale
        scaled += 0.0  # there is one zero: which of two a maximum keeps is the processor's choice
        if not self._fits_float32:
            np.clip(scaled, -FLOAT32_MAX, FLOAT32_MAX, out=scaled)
        matrix[:, self._targets] = scaled
        if has_missing:
            matrix[:, self._targets[self._with_indicator] + 1] = is_missing[:, self._with_indicator]


class CodeLookup:
    """From values to codes: a look-up a value, or one a distinct value when there are many."""

    def __init__(self, category: CodedCategory) -> None:
        self._codes: dict[Any, int] = dict(zip(category.levels, category.codes, strict=True))
        self._other = category.other_code
        self._missing = category.missing_code
        self._codes[None] = self._missing

    def codes(self, column: pa.ChunkedArray) -> npt.NDArray[np.intp]:
        """The code of each of n values, (n,)."""
        if len(column) <= _FEW_ROWS:
            known, other = self._codes, self._other
            return np.array([known.get(value, other) for value in column.to_pylist()], dtype=np.intp)
        return self.small_codes(column, np.dtype(np.intp))

    def small_codes(self, column: pa.ChunkedArray, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """The same, (n,), of a type that holds them."""
        encoded = dictionary_of(column)
        levels = encoded.dictionary.to_pylist()
        table = np.array([*(self._codes.get(level, self._other) for level in levels), self._missing], dtype=dtype)
        indices = encoded.indices
        if indices.null_count:
            indices = pc.fill_null(indices, len(levels))
        return np.asarray(table[indices.to_numpy()])


def dictionary_of(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """The column as one array of int32 indices into its distinct values; nulls stay null."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    combined = column.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        combined = combined.unify_dictionaries()
        combined = combined.chunk(0) if combined.num_chunks else pa.array([], combined.type)
    return combined


def numbers_of(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """A column of numbers or booleans as float64, missing as NaN, (n,). A fresh array.

    Raises:
        DataError: the column holds no numbers.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    is_number = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    if not any(check(column.type) for check in is_number):
        raise DataError(f"column = {column.type} is no number; convert it to one.")
    values = pc.cast(column, pa.float64(), safe=False)
    return np.array(values.to_numpy(), dtype=np.float64)


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    kind = column.type
    if len(column) <= _FEW_ROWS and (pa.types.is_integer(kind) or kind == pa.float64() or pa.types.is_boolean(kind)):
        # Exact in both ways, and five times cheaper than a cast for one row.
        return np.array([np.nan if value is None else value for value in column.to_pylist()], dtype=np.float64)
    return numbers_of(column)


def _column(table: pa.Table, positions: Mapping[str, int], name: str) -> pa.ChunkedArray:
    try:
        return table.column(positions[name])
    except KeyError:
        raise DataError(f"table = {list(positions)} lacks the feature {name!r}; send every feature.") from None


def _column_from_json(value: Mapping[str, Any]) -> ColumnEncoding:
    arguments = {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
    return _KINDS[value["kind"]](**arguments)
