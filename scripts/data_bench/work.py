"""The work that every engine does: 17 columns and a key in, the encoded columns out, fitted on the train rows.

Numbers: the median for missing ones and a column that says so, clipped to the 1 % and 99 % quantiles, standardised, as
float32. Categories: levels under 0.1 % of the rows are folded, the most frequent one stands for missing ones and a
column says so; up to 8 levels make boolean columns, more make codes by frequency. A row's split is the hash of its key.
Shards are Parquet with snappy, and dictionaries for codes only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

NUMBERS = ("age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week")
CATEGORIES = (
    "workclass",
    "education",
    "marital_status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "native_country",
    "city",
)
KEY, TARGET = "person", "income"
POSITIVE = ">50K"
SPLITS = ("train", "validation", "test")
SEED = 1
MAX_ONE_HOT, RARE_SHARE = 8, 0.001


@dataclass(frozen=True, kw_only=True)
class NumberFit:
    """What one number column is encoded with."""

    fill: float
    low: float
    high: float
    center: float
    scale: float
    has_missing: bool


@dataclass(frozen=True, kw_only=True)
class CategoryFit:
    """What one category column is encoded with; a level that is not among `levels` has the code `len(levels)`."""

    levels: tuple[str, ...]
    has_missing: bool

    @property
    def one_hot(self) -> bool:
        return len(self.levels) <= MAX_ONE_HOT


Fits = Mapping[str, NumberFit | CategoryFit]


def split_labels(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
    """0 train, 1 validation, 2 test, (n,): a fifth each for the latter, by the SplitMix64 hash of key and seed."""
    shares = (_mix(_mix(_mix(keys.view(np.uint64))) ^ _mix(np.array([SEED], np.uint64))) >> np.uint64(11)) * 2.0**-53
    labels = np.zeros(len(keys), np.int8)
    labels[shares < 0.4] = 1
    labels[shares < 0.2] = 2
    return labels


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        mixed = values + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))


def fit_number(quantiles: Sequence[float], values: Any, weights: Any, num_missing: int) -> NumberFit:
    """From the 1 %, 50 % and 99 % quantiles and the distinct values (k,) with their rows."""
    low, fill, high = quantiles
    clipped = np.append(np.clip(values, low, high), fill)
    shares = np.append(weights, num_missing) / (weights.sum() + num_missing)
    center = float((clipped * shares).sum())
    scale = math.sqrt(float(((clipped - center) ** 2 * shares).sum()))
    return NumberFit(fill=fill, low=low, high=high, center=center, scale=scale, has_missing=num_missing > 0)


def fit_category(counts: Mapping[str, int], num_missing: int) -> CategoryFit:
    """From the rows of each level."""
    enough = max(2, math.ceil(RARE_SHARE * (sum(counts.values()) + num_missing)))
    kept = [level for level, count in counts.items() if count >= enough]
    ranked = sorted(kept, key=lambda level: (-counts[level], level))
    return CategoryFit(levels=tuple(ranked), has_missing=num_missing > 0)


def encode(table: pa.Table, fits: Fits) -> pa.Table:
    """The encoded columns and the target of a table whose categories are dictionaries or strings."""
    columns: dict[str, Any] = {}
    for name in [each for each in table.column_names if each in fits]:
        fit = fits[name]
        if isinstance(fit, NumberFit):
            _encode_number(name, table.column(name), fit, columns)
        else:
            _encode_category(name, table.column(name), fit, columns)
    target = dictionary(table.column(TARGET))
    is_positive = np.array([level == POSITIVE for level in target.dictionary.to_pylist()], np.uint8)
    columns[TARGET] = is_positive[target.indices.to_numpy()]
    return pa.table(columns)


def _encode_number(name: str, column: pa.ChunkedArray, fit: NumberFit, columns: dict[str, Any]) -> None:
    values = column.cast(pa.float64()).to_numpy()
    is_missing = np.isnan(values)
    filled = np.where(is_missing, fit.fill, values) if fit.has_missing else values
    scaled = np.clip(filled, fit.low, fit.high)
    scaled -= fit.center
    scaled /= fit.scale or np.inf
    columns[name] = scaled.astype(np.float32)
    if fit.has_missing:
        columns[f"{name}:missing"] = is_missing


def _encode_category(name: str, column: pa.ChunkedArray, fit: CategoryFit, columns: dict[str, Any]) -> None:
    codes = {level: code for code, level in enumerate(fit.levels)}
    encoded = dictionary(column)
    other = len(codes)
    levels = encoded.dictionary.to_pylist()
    kind = np.uint8 if other < 256 else np.uint16
    table = np.array([*(codes.get(level, other) for level in levels), 0], kind)
    indices = encoded.indices.fill_null(len(levels)) if encoded.indices.null_count else encoded.indices
    coded = table[indices.to_numpy()]
    if fit.one_hot:
        for code, level in enumerate([*fit.levels, "<other>"]):
            columns[f"{name}={level}"] = coded == code
    else:
        columns[name] = coded
    if fit.has_missing:
        columns[f"{name}:missing"] = column.is_null()


def dictionary(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """The column as one dictionary array."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    return column.unify_dictionaries().combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def code_columns(schema: pa.Schema) -> list[str]:
    """The columns that are written with a dictionary."""
    return [field.name for field in schema if pa.types.is_unsigned_integer(field.type)]
