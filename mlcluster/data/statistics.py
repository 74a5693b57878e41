"""What one chunk of rows says about a column, in a form that can be added up.

Every chunk gives its partials, and all of a column's are merged at once, in the order of the rows: the result depends
on the rows alone (see `data.chunks`). A number column is kept as a weighted grid of its values, exact while a chunk
holds at most 2,048 distinct ones; a category column as the counts of its levels, always exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlcluster.data.images import ImagePartial, merged_images
from mlcluster.data.schema import Label, TargetColumn
from mlcluster.data.transform import dictionary_of, numbers_of

GRID_POINTS = 2048
# Merged grids are thinned at this size, so that memory stays flat as chunks grow in number.
_MERGED_POINTS = 8 * GRID_POINTS
# Whole numbers within such a range are counted rather than sorted.
_COUNTED_RANGE = 1 << 17

FloatVector = npt.NDArray[np.float64]
CountVector = npt.NDArray[np.int64]


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
class TargetCounts:
    """How the target is spread over the k levels of a category, the last row standing for missing ones.

    A chunk does not know yet whether its target is a class or a quantity, so it keeps what either needs.
    """

    values: tuple[Label, ...] | None
    """The target's values when there are at most two; None when there are more."""
    joint: CountVector
    """Rows by level and target value, (k + 1, len(values)); nothing, (k + 1, 0), when there are more."""
    sums: FloatVector | None
    """Sum of the target by level, (k + 1,); None for a target that is no number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoryPartial:
    """A category column with k levels."""

    levels: pa.Array
    counts: CountVector
    """Rows by level, and those that are missing, (k + 1,)."""
    target: TargetCounts

    @property
    def count(self) -> int:
        """Rows that are not missing."""
        return int(self.counts[:-1].sum())

    @property
    def missing(self) -> int:
        return int(self.counts[-1])

    def most_frequent(self, limit: int) -> list[tuple[str, int]]:
        """Levels as text with their rows, the most frequent first; ties in the order of the text."""
        counts = self.counts[:-1]
        lowest = np.sort(counts)[-limit:][0] if len(counts) else 0
        chosen = np.flatnonzero(counts >= lowest)
        names = map(str, self.levels.take(pa.array(chosen)).to_pylist())
        return sorted(zip(names, counts[chosen].tolist(), strict=True), key=lambda each: (-each[1], each[0]))[:limit]

    def target_sums(self, target: TargetColumn) -> FloatVector:
        """By level, (k + 1,): rows of the positive class, or the sum of a quantity; zeros for more classes than two."""
        if target.task == "regression" and self.target.sums is not None:
            return self.target.sums
        values = self.target.values or ()
        if target.task == "binary" and target.classes[1] in values:
            return self.target.joint[:, values.index(target.classes[1])].astype(np.float64)
        return np.zeros(len(self.counts))


ColumnPartial = NumberPartial | CategoryPartial | ImagePartial


def number_partial(column: pa.ChunkedArray) -> NumberPartial:
    """The partial of one chunk's column of numbers or booleans; NaN and null are missing."""
    values, counts = _distinct_numbers(column)
    count = int(counts.sum())
    weights = counts.astype(np.float64)
    # Sums run over the sorted values, so that the order of rows within a chunk leaves the last bit alone, and not
    # through np.dot, whose last bit depends on the number of cores.
    finite = np.clip(values, -1e300, 1e300)
    mean = float(np.sum(finite * weights) / weights.sum()) if len(values) else 0.0
    with np.errstate(over="ignore"):
        deviations = float(np.sum((finite - mean) ** 2 * weights))
    is_exact = len(values) <= GRID_POINTS
    ends = (float(values[0]), float(values[-1])) if len(values) else (float("nan"), float("nan"))
    values, weights = _thinned(values, weights, GRID_POINTS)
    return NumberPartial(
        is_exact=is_exact,
        count=count,
        missing=len(column) - count,
        mean=mean,
        squared_deviations=deviations,
        minimum=ends[0],
        maximum=ends[1],
        values=values,
        weights=weights,
    )


def category_partial(column: pa.ChunkedArray, target: pa.ChunkedArray) -> CategoryPartial:
    """The partial of one chunk's category column (n,) with the raw target (n,) of the same rows."""
    return CategoryTally(target).partial(column)


class CategoryTally:
    """Counts category columns of one chunk against its `target` (n,), which is looked at once for all columns."""

    def __init__(self, target: pa.ChunkedArray) -> None:
        encoded = dictionary_of(target)
        values = encoded.dictionary.to_pylist()
        self._values = tuple(values) if len(values) <= 2 and None not in values else None
        self._codes = encoded.indices.to_numpy(zero_copy_only=False) if self._values is not None else None
        kind = target.type.value_type if pa.types.is_dictionary(target.type) else target.type
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        self._numbers = numbers_of(target) if is_number else None

    def partial(self, column: pa.ChunkedArray) -> CategoryPartial:
        """The partial of one column (n,)."""
        encoded = dictionary_of(column)
        num_levels = len(encoded.dictionary)
        indices = pc.fill_null(encoded.indices, num_levels).to_numpy(zero_copy_only=False)
        counts = np.bincount(indices, minlength=num_levels + 1)
        sums = None
        if self._numbers is not None:
            sums = np.asarray(np.bincount(indices, weights=self._numbers, minlength=num_levels + 1), dtype=np.float64)
        joint = np.zeros((num_levels + 1, 0), dtype=np.int64)
        if self._values is not None and self._codes is not None:
            joint = _joint_counts(indices, self._codes, counts, len(self._values))
        found = CategoryPartial(
            levels=encoded.dictionary,
            counts=counts,
            target=TargetCounts(values=self._values, joint=joint, sums=sums),
        )
        return _without_unseen(found)


def merge_all(parts: Sequence[ColumnPartial]) -> ColumnPartial:
    """All partials of one column together, in the order of the rows."""
    numbers = [part for part in parts if isinstance(part, NumberPartial)]
    categories = [part for part in parts if isinstance(part, CategoryPartial)]
    images = [part for part in parts if isinstance(part, ImagePartial)]
    if images:
        return merged_images(images)
    if numbers and categories:
        raise TypeError("a NumberPartial and a CategoryPartial are of two columns")
    return _merged_numbers(numbers) if numbers else _merged_categories(categories)


def _distinct_numbers(column: pa.ChunkedArray) -> tuple[FloatVector, CountVector]:
    """The distinct values that are not missing, ascending, and how many rows hold each."""
    if pa.types.is_integer(column.type) and len(column) > column.null_count:
        low, high = (end.as_py() for end in pc.min_max(column).values())
        if high - low < _COUNTED_RANGE and low > -(2**53) and high < 2**53:
            whole = (column.drop_null() if column.null_count else column).to_numpy()
            counts = np.bincount(whole - np.asarray(low, dtype=whole.dtype))
            held = np.flatnonzero(counts)
            return (held + low).astype(np.float64), counts[held]
    numbers = numbers_of(column)
    present = numbers[~np.isnan(numbers)] + 0.0  # one zero, not two: which one is kept would depend on the order
    return np.unique(present, return_counts=True)


def _joint_counts(
    indices: npt.NDArray[Any], codes: npt.NDArray[Any], counts: CountVector, num_values: int
) -> CountVector:
    """Rows by level and target value, (k + 1, num_values)."""
    if num_values < 2:
        return counts[:, None][:, :num_values]
    second = np.bincount(indices, weights=codes, minlength=len(counts)).astype(np.int64)
    return np.column_stack([counts - second, second])


def _without_unseen(partial: CategoryPartial) -> CategoryPartial:
    """Without levels that stand in the dictionary only; a null in the dictionary counts as missing."""
    is_kept = partial.counts[:-1] > 0
    if partial.levels.null_count:
        is_null = np.asarray(partial.levels.is_null())
        counts, target = partial.counts.copy(), partial.target
        counts[-1] += counts[:-1][is_null].sum()
        joint = target.joint.copy()
        joint[-1] += joint[:-1][is_null].sum(axis=0)
        sums = None if target.sums is None else target.sums.copy()
        if sums is not None:
            sums[-1] += sums[:-1][is_null].sum()
        partial = replace(partial, counts=counts, target=replace(target, joint=joint, sums=sums))
        is_kept &= ~is_null
    if is_kept.all():
        return partial
    kept = np.append(np.flatnonzero(is_kept), len(is_kept))
    target = partial.target
    return CategoryPartial(
        levels=partial.levels.filter(pa.array(is_kept)),
        counts=partial.counts[kept],
        target=replace(target, joint=target.joint[kept], sums=None if target.sums is None else target.sums[kept]),
    )


def _merged_numbers(parts: Sequence[NumberPartial]) -> NumberPartial:
    held = [part for part in parts if part.count]
    missing = sum(part.missing for part in parts)
    if not held:
        return replace(parts[0], missing=missing)
    values, inverse = np.unique(np.concatenate([part.values for part in held]), return_inverse=True)
    all_weights = np.concatenate([part.weights for part in held])
    weights = np.asarray(np.bincount(inverse, weights=all_weights), dtype=np.float64)
    is_exact = all(part.is_exact for part in held) and len(values) <= _MERGED_POINTS
    values, weights = _thinned(values, weights, _MERGED_POINTS)
    count, mean, deviations = reduce(_moments, ((p.count, p.mean, p.squared_deviations) for p in held))
    return NumberPartial(
        is_exact=is_exact,
        count=count,
        missing=missing,
        mean=mean,
        squared_deviations=deviations,
        minimum=min(part.minimum for part in held),
        maximum=max(part.maximum for part in held),
        values=values,
        weights=weights,
    )


def _moments(first: tuple[int, float, float], second: tuple[int, float, float]) -> tuple[int, float, float]:
    """Chan, Golub and LeVeque (1979): count, mean and squared deviations of a union from those of its parts."""
    count = first[0] + second[0]
    delta = second[1] - first[1]
    mean = first[1] + delta * second[0] / count
    return count, mean, first[2] + second[2] + delta * delta * first[0] * second[0] / count


def _merged_categories(parts: Sequence[CategoryPartial]) -> CategoryPartial:
    if len(parts) == 1:
        return parts[0]
    joined = pa.chunked_array([part.levels for part in parts], type=parts[0].levels.type).dictionary_encode()
    joined = dictionary_of(joined)
    num_levels = len(joined.dictionary)
    indices = joined.indices.to_numpy(zero_copy_only=False)
    # Where each part's rows of counts go; the last one, of missing values, goes to the end.
    starts = np.cumsum([0, *(len(part.levels) for part in parts)])
    places = np.concatenate([np.append(indices[start:stop], num_levels) for start, stop in pairwise(starts)])
    counts = np.zeros(num_levels + 1, dtype=np.int64)
    np.add.at(counts, places, np.concatenate([part.counts for part in parts]))
    return CategoryPartial(
        levels=joined.dictionary, counts=counts, target=_merged_targets([p.target for p in parts], places, num_levels)
    )


def _merged_targets(parts: Sequence[TargetCounts], places: npt.NDArray[Any], num_levels: int) -> TargetCounts:
    sums = None
    if all(part.sums is not None for part in parts):
        # In the order of the parts, whatever their number: each place is added to from left to right.
        sums = np.zeros(num_levels + 1)
        np.add.at(sums, places, np.concatenate([part.sums for part in parts if part.sums is not None]))
    values = tuple(dict.fromkeys(value for part in parts for value in part.values or ()))
    if len(values) > 2 or any(part.values is None for part in parts):
        return TargetCounts(values=None, joint=np.zeros((num_levels + 1, 0), dtype=np.int64), sums=sums)
    aligned = []
    for part in parts:
        own = part.values or ()
        columns = [part.joint[:, own.index(v)] if v in own else np.zeros(len(part.joint), np.int64) for v in values]
        aligned.append(np.column_stack(columns) if columns else np.zeros((len(part.joint), 0), np.int64))
    joint = np.zeros((num_levels + 1, len(values)), dtype=np.int64)
    np.add.at(joint, places, np.concatenate(aligned))
    return TargetCounts(values=values, joint=joint, sums=sums)


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
