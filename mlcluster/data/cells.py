"""Columns as few cells: the levels of a category, or bins of a number that hold about as many rows each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlcluster.data.transform import dictionary_of, numbers_of

FloatVector = npt.NDArray[np.float64]
CodeVector = npt.NDArray[np.int64]


def is_number_type(kind: pa.DataType) -> bool:
    """Whether values of this type have an order and a distance; booleans have none to speak of."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def number_codes(values: FloatVector, num_bins: int) -> tuple[CodeVector, FloatVector]:
    """The bin of each value, (n,), and the k - 1 values at which bins end, which belong to the bin below.

    NaN has a bin of its own behind the others, k. A number with no more values than `num_bins` has a bin for each.
    """
    is_missing = np.isnan(values)
    present = values[~is_missing]
    distinct = np.unique(present)
    if len(distinct) <= num_bins:
        ends = distinct[:-1]
    else:
        edges = np.quantile(present, np.linspace(0, 1, num_bins + 1)[1:-1], method="inverted_cdf")
        ends = np.unique(edges[edges < distinct[-1]])
    codes = np.searchsorted(ends, values, side="left")
    return np.where(is_missing, len(ends) + 1, codes).astype(np.int64), ends


def level_codes(column: pa.ChunkedArray, max_levels: int) -> tuple[CodeVector, list[object]]:
    """The place of each value in the levels by frequency, (n,), and the k most frequent levels.

    Less frequent levels are together in cell k, missing values in cell k + 1. Ties go by the level's text.
    """
    encoded = dictionary_of(column)
    levels = encoded.dictionary.to_pylist()
    indices = encoded.indices.fill_null(len(levels)).to_numpy()
    counts = np.bincount(indices, minlength=len(levels) + 1)
    held = [place for place in np.flatnonzero(counts[:-1]).tolist() if levels[place] is not None]
    kept = sorted(held, key=lambda place: (-counts[place], str(levels[place])))[:max_levels]
    table = np.full(len(levels) + 1, len(kept), dtype=np.int64)
    table[[place for place, level in enumerate(levels) if level is None]] = len(kept) + 1
    table[-1] = len(kept) + 1
    table[kept] = np.arange(len(kept))
    return np.asarray(table[indices]), [levels[place] for place in kept]


def column_codes(column: pa.ChunkedArray, *, num_bins: int, max_levels: int) -> CodeVector:
    """The cell of each value, (n,): the bin of a number, the level of anything else."""
    if is_number_type(column.type):
        return number_codes(numbers_of(column), num_bins)[0]
    return level_codes(column, max_levels)[0]
