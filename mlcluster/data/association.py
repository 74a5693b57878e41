"""How much of the target each column tells by itself.

What a column's cells (levels, or bins of a number) say about a row is the mean target of the cell among the rows of
the other half: over the same rows, a column with a level a row would tell everything. A number also gets a chance as
it stands, by its order. So one scale holds for numbers and categories, straight relations and bent ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlcluster.data.cells import CodeVector, column_codes, is_number_type
from mlcluster.data.hashing import mix, value_hashes
from mlcluster.data.schema import FeatureColumn, TargetColumn, TaskKind
from mlcluster.data.target import encode_target, missing_mask
from mlcluster.data.transform import numbers_of

FloatVector = npt.NDArray[np.float64]

MEASURES: dict[TaskKind, str] = {
    "binary": "2 AUC - 1 of the column alone",
    "regression": "rank correlation with the column alone",
    "multiclass": "correlation ratio of the column alone",
}
_MIN_ROWS = 50
_MAX_BINS = 32
_ROWS_PER_BIN = 50
# Of an unrelated column, 1.65 times 1.4 for its cells; a little more, since a number is looked at in two ways.
_DEVIATIONS = 2.6
# Of a category against several classes, (levels, classes) numbers are held.
_MAX_LEVELS = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Association:
    """What each column tells of the target, from 0 (nothing) to 1 (all), by name."""

    measure: str
    num_rows: int
    """Train rows that were looked at."""
    chance: float
    """What a column that has nothing to do with the target stays below in about 95 of 100 cases."""
    values: dict[str, float]


def measure_association(
    table: pa.Table, features: Sequence[FeatureColumn], target_column: TargetColumn
) -> Association | None:
    """Of each feature; `table` (n rows) holds features and target, which is nowhere missing. None under 50 rows."""
    if table.num_rows < _MIN_ROWS:
        return None
    target = encode_target(table.column(target_column.name), target_column)
    values = {}
    for feature in features:
        column = table.column(feature.name)
        if target_column.task == "multiclass":
            value = _correlation_ratio(column, target.astype(np.int64), len(target_column.classes))
        else:
            value = _strength(column, target.astype(np.float64), is_binary=target_column.task == "binary")
        values[feature.name] = round(value, 4)
    return Association(
        measure=MEASURES[target_column.task],
        num_rows=table.num_rows,
        chance=round(_chance(target, target_column), 4),
        values=values,
    )


def single_feature_auc(scores: FloatVector, is_positive: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve of one feature as the score, in its better direction: 0.5 to 1. Ties count half."""
    area = _area(scores, is_positive)
    return max(area, 1 - area)


def rank_correlation(first: FloatVector, second: FloatVector) -> float:
    """|Spearman's rho|, 0 when either is constant."""
    return abs(_spearman(first, second))


def level_means(column: pa.ChunkedArray, target: FloatVector) -> FloatVector:
    """The mean target of each row's level among the rows of the other half, (n,).

    Not over all rows: a level of one row would tell that row's target. Not over all rows but this one either: every
    positive row would then stand just below its level's negative rows, and any column would look like a leak.
    """
    return _cell_means(np.unique(value_hashes(column), return_inverse=True)[1], target)


def _cell_means(cells: CodeVector, target: FloatVector) -> FloatVector:
    is_second = _second_half(len(target))
    means = np.empty(len(target))
    for is_here in (is_second, ~is_second):
        others = cells[~is_here]
        counts = np.bincount(others, minlength=cells.max() + 1) + 1.0
        sums = np.bincount(others, weights=target[~is_here], minlength=cells.max() + 1) + target.mean()
        means[is_here] = (sums / counts)[cells[is_here]]
    return means


def _second_half(num_rows: int) -> npt.NDArray[np.bool_]:
    return (mix(np.arange(num_rows, dtype=np.uint64)) & np.uint64(1)).astype(np.bool_)


def _strength(column: pa.ChunkedArray, target: FloatVector, *, is_binary: bool) -> float:
    """The better of the column's order and its cells, for two classes or a quantity."""

    def strength(scores: FloatVector) -> float:
        return 2 * _area(scores, target == 1) - 1 if is_binary else _spearman(scores, target)

    if not is_number_type(column.type):
        return max(0.0, strength(level_means(column, target)))
    # A mean that holds the other way round in the other half is chance; an order may go either way.
    of_cells = strength(_cell_means(column_codes(column, num_bins=_num_bins(column), max_levels=0), target))
    numbers = numbers_of(column)
    is_missing = missing_mask(column)
    if is_missing.all():
        return max(0.0, of_cells)
    # In the middle a missing value says nothing for or against; the cells know whether it does.
    numbers[is_missing] = np.median(numbers[~is_missing])
    return max(of_cells, abs(strength(numbers)))


def _num_bins(column: pa.ChunkedArray) -> int:
    return min(_MAX_BINS, max(2, len(column) // _ROWS_PER_BIN))


def _correlation_ratio(column: pa.ChunkedArray, target: npt.NDArray[np.int64], num_classes: int) -> float:
    """Square root of the share of the classes' variance that the cells explain, each half by the other's shares."""
    cells = column_codes(column, num_bins=_num_bins(column), max_levels=_MAX_LEVELS)
    num_cells = int(cells.max()) + 1
    is_second = _second_half(len(target))
    overall = np.bincount(target, minlength=num_classes) / len(target)
    error = 0.0
    for is_here in (is_second, ~is_second):
        joint = np.bincount(cells[~is_here] * num_classes + target[~is_here], minlength=num_cells * num_classes)
        shares = joint.reshape(num_cells, num_classes) + overall
        shares /= shares.sum(axis=1, keepdims=True)
        here = cells[is_here]
        error += float(((shares**2).sum(axis=1)[here] - 2 * shares[here, target[is_here]] + 1).sum())
    total = len(target) * (1 - float((overall**2).sum()))
    return float(np.sqrt(max(0.0, 1 - error / total))) if total else 0.0


def _chance(target: npt.NDArray[np.int64] | FloatVector, column: TargetColumn) -> float:
    """From the deviation of a score without meaning; the means of two halves about each other have 1.4 times that."""
    num_rows = len(target)
    if column.task == "multiclass":
        return min(1.0, 2 / float(np.sqrt(num_rows)))
    if column.task == "regression":
        return min(1.0, _DEVIATIONS / float(np.sqrt(num_rows - 1)))
    num_positive = int((target == 1).sum())
    num_pairs = num_positive * (num_rows - num_positive)
    # Mann and Whitney (1947).
    return min(1.0, _DEVIATIONS * 2 * float(np.sqrt((num_rows + 1) / (12 * num_pairs)))) if num_pairs else 1.0


def _area(scores: FloatVector, is_positive: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve, 0 to 1; 0.5 where there is one class."""
    num_positive = int(is_positive.sum())
    num_negative = len(scores) - num_positive
    if not num_positive or not num_negative:
        return 0.5
    ranks = _ranks(scores)
    above = ranks[is_positive].sum() - num_positive * (num_positive + 1) / 2
    return float(above / (num_positive * num_negative))


def _spearman(first: FloatVector, second: FloatVector) -> float:
    ranks = _ranks(first) - (len(first) + 1) / 2, _ranks(second) - (len(second) + 1) / 2
    norm = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return float((ranks[0] * ranks[1]).sum()) / norm if norm else 0.0


def _ranks(values: FloatVector) -> FloatVector:
    """Ranks from 1, the mean rank for ties, (n,)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse])
