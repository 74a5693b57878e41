"""What one block of rows says about a column, in a form that can be added up.

Every block gives its partials, and they are merged in block order: the result depends on the blocks, never on which
worker read which one. A number column is kept as a weighted grid of its values, exact while a block holds at most
2,048 distinct ones; a category column as the counts of its levels.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlcluster.data.transform import Level, dictionary_of, numbers_of

GRID_POINTS = 2048
# Merged grids are thinned at this size, so that memory stays flat as blocks grow in number.
_MERGED_POINTS = 16 * GRID_POINTS

FloatVector = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberPartial:
    """A number or boolean column: `values` ascending with their `weights` (row counts), and exact moments."""

    count: int
    """Rows that are not missing."""
    missing: int
    mean: float
    squared_deviations: float
    """Sum of squared deviations from the mean."""
    minimum: float
    maximum: float
    values: FloatVector
    weights: FloatVector
    is_exact: bool
    """Whether `values` are all the distinct values, rather than a grid of them."""

    @property
    def is_constant(self) -> bool:
        return self.count == 0 or self.minimum == self.maximum

    def quantile(self, share: float) -> float:
        """The smallest value with at least `share` of the rows at or below it; NaN when there is none."""
        if not self.count:
            return float("nan")
        reached = np.searchsorted(np.cumsum(self.weights), share * self.count * (1 - 1e-12))
        return float(self.values[min(int(reached), len(self.values) - 1)])


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelPartial:
    """One level of a category: its rows, and the sum of their targets (class indices or values)."""

    count: int
    target_sum: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoryPartial:
    """A category column, level by level."""

    count: int
    missing: LevelPartial
    levels: dict[Level, LevelPartial] = field(default_factory=dict)


ColumnPartial = NumberPartial | CategoryPartial


def number_partial(column: pa.ChunkedArray) -> NumberPartial:
    """The partial of one block's column of numbers or booleans; NaN and null are missing."""
    numbers = numbers_of(column)
    present = numbers[~np.isnan(numbers)] + 0.0  # one zero, not two: which one is kept would depend on the order
    values, counts = np.unique(present, return_counts=True)
    weights = counts.astype(np.float64)
    # Sums run over the sorted values, so that the order of rows within a block leaves the last bit alone, and not
    # through np.dot, whose last bit depends on the number of cores.
    finite = np.clip(values, -1e300, 1e300)
    mean = float(np.sum(finite * weights) / weights.sum()) if len(values) else 0.0
    with np.errstate(over="ignore"):
        deviations = float(np.sum((finite - mean) ** 2 * weights))
    is_exact = len(values) <= GRID_POINTS
    values, weights = _thinned(values, weights, GRID_POINTS)
    return NumberPartial(
        is_exact=is_exact,
        count=len(present),
        missing=len(numbers) - len(present),
        mean=mean,
        squared_deviations=deviations,
        minimum=float(present.min()) if len(present) else float("nan"),
        maximum=float(present.max()) if len(present) else float("nan"),
        values=values,
        weights=weights,
    )


def category_partial(column: pa.ChunkedArray, target: FloatVector) -> CategoryPartial:
    """The partial of one block's category column; `target` (n,) holds class indices or values."""
    encoded = dictionary_of(column)
    levels: list[Any] = encoded.dictionary.to_pylist()
    indices = pc.fill_null(encoded.indices, len(levels)).to_numpy(zero_copy_only=False)
    counts = np.bincount(indices, minlength=len(levels) + 1)
    sums = np.bincount(indices, weights=target, minlength=len(levels) + 1)
    partials = [LevelPartial(count=int(n), target_sum=float(s)) for n, s in zip(counts, sums, strict=True)]
    missing = partials.pop()
    merged: dict[Level, LevelPartial] = {}
    for level, partial in zip(levels, partials, strict=True):
        if level is None:
            missing = _added(missing, partial)
        elif partial.count:
            merged[level] = _added(merged[level], partial) if level in merged else partial
    return CategoryPartial(count=len(column) - missing.count, missing=missing, levels=merged)


def merge(first: ColumnPartial, second: ColumnPartial) -> ColumnPartial:
    """Both together; `first` comes from the earlier blocks."""
    if isinstance(first, NumberPartial) and isinstance(second, NumberPartial):
        return _merged_numbers(first, second)
    if not (isinstance(first, CategoryPartial) and isinstance(second, CategoryPartial)):
        raise TypeError(f"a {type(first).__name__} and a {type(second).__name__} are of two columns")
    levels = dict(first.levels)
    for level, partial in second.levels.items():
        levels[level] = _added(levels[level], partial) if level in levels else partial
    return CategoryPartial(
        count=first.count + second.count, missing=_added(first.missing, second.missing), levels=levels
    )


def _merged_numbers(first: NumberPartial, second: NumberPartial) -> NumberPartial:
    if not (first.count and second.count):
        kept, other = (first, second) if first.count else (second, first)
        return replace(kept, missing=kept.missing + other.missing)
    count = first.count + second.count
    # Chan, Golub and LeVeque (1979): exact moments of a union from the moments of its parts.
    delta = second.mean - first.mean
    values, inverse = np.unique(np.concatenate([first.values, second.values]), return_inverse=True)
    both_weights = np.concatenate([first.weights, second.weights])
    weights = np.asarray(np.bincount(inverse, weights=both_weights), dtype=np.float64)
    is_exact = first.is_exact and second.is_exact and len(values) <= _MERGED_POINTS
    values, weights = _thinned(values, weights, _MERGED_POINTS)
    return NumberPartial(
        is_exact=is_exact,
        count=count,
        missing=first.missing + second.missing,
        mean=first.mean + delta * second.count / count,
        squared_deviations=first.squared_deviations
        + second.squared_deviations
        + delta * delta * first.count * second.count / count,
        minimum=min(first.minimum, second.minimum),
        maximum=max(first.maximum, second.maximum),
        values=values,
        weights=weights,
    )


def _thinned(values: FloatVector, weights: FloatVector, limit: int) -> tuple[FloatVector, FloatVector]:
    """At most about `limit` points: neighbours of equal rank are replaced by their weighted mean."""
    if len(values) <= limit:
        return values, weights
    ends = np.cumsum(weights)
    buckets = np.minimum(((ends - weights / 2) / ends[-1] * limit).astype(np.int64), limit - 1)
    starts = np.flatnonzero(np.diff(buckets, prepend=-1))
    merged_weights = np.add.reduceat(weights, starts)
    finite = np.clip(values, -1e300, 1e300)
    lengths = np.diff([*starts, len(values)])
    shares = weights / np.repeat(merged_weights, lengths)
    merged_values = np.add.reduceat(finite * shares, starts)
    return merged_values, merged_weights


def _added(first: LevelPartial, second: LevelPartial) -> LevelPartial:
    return LevelPartial(count=first.count + second.count, target_sum=first.target_sum + second.target_sum)
