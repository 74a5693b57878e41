"""Which cells of the train split are thin: pairs of columns, levels of categories by quantile bins of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlcluster.data.findings import Finding
from mlcluster.data.transform import dictionary_of, numbers_of

MAX_LEVELS = 32
"""Of a category with more, the rest is one level; its cells would all be thin."""
_OTHER, _MISSING = "<other>", "<missing>"


@dataclass(frozen=True, kw_only=True, slots=True)
class ThinCell:
    """A cell that too few train rows stand in; `num_expected` are those that there would be were its columns apart."""

    columns: tuple[str, str]
    levels: tuple[str, str]
    num_rows: int
    num_expected: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def finding(self, num_train_rows: int, min_rows: int) -> Finding:
        where = " and ".join(f"{name} = {level}" for name, level in zip(self.columns, self.levels, strict=True))
        return Finding(
            kind="thin_slice",
            column=self.columns[0],
            value=float(self.num_rows),
            message=f"{where} has {self.num_rows} of {num_train_rows} train rows, under {min_rows} "
            f"({self.num_expected:.0f} if the two were independent); collect more, or see data.augment.oversample.",
        )


def thin_cells(table: pa.Table, columns: Sequence[str], *, min_rows: int, num_bins: int) -> tuple[ThinCell, ...]:
    """The cells of each pair of `columns` with fewer than `min_rows` rows, from those that lack most rows on.

    Counts are exact. Cells without any row come last: what one column says often rules out what the other may. A cell
    counts as thin only where each of its two levels has `min_rows` rows: what is rare by itself makes all of its cells
    thin, and the profile shows it already.
    """
    coded = {name: _levels(table.column(name), num_bins) for name in columns}
    found: list[ThinCell] = []
    for first, second in combinations(columns, 2):
        found += _thin_in_pair((first, second), coded[first], coded[second], min_rows)
    return tuple(sorted(found, key=_urgency))


def _urgency(cell: ThinCell) -> tuple[bool, float, tuple[str, str], tuple[str, str]]:
    return cell.num_rows == 0, cell.num_rows - cell.num_expected, cell.columns, cell.levels


@dataclass(frozen=True, slots=True)
class _Levels:
    codes: npt.NDArray[np.int64]
    names: list[str]


def _thin_in_pair(names: tuple[str, str], first: _Levels, second: _Levels, min_rows: int) -> list[ThinCell]:
    shape = (len(first.names), len(second.names))
    counts = np.bincount(first.codes * shape[1] + second.codes, minlength=shape[0] * shape[1]).reshape(shape)
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    expected = np.outer(rows, columns) / max(1, counts.sum())
    is_thin = (counts < min_rows) & (rows[:, np.newaxis] >= min_rows) & (columns >= min_rows)
    return [
        ThinCell(
            columns=names,
            levels=(first.names[i], second.names[j]),
            num_rows=int(counts[i, j]),
            num_expected=float(expected[i, j]),
        )
        for i, j in np.argwhere(is_thin)
    ]


def _levels(column: pa.ChunkedArray, num_bins: int) -> _Levels:
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _bins(numbers_of(column), num_bins)
    encoded = dictionary_of(column)
    counts = np.bincount(encoded.indices.drop_null().to_numpy(), minlength=len(encoded.dictionary))
    kept = np.argsort(-counts, kind="stable")[:MAX_LEVELS]
    table = np.full(len(encoded.dictionary) + 1, len(kept), dtype=np.int64)
    table[kept] = np.arange(len(kept))
    table[-1] = len(kept) + 1
    names = [*(level_name(encoded.dictionary[int(place)].as_py()) for place in kept), _OTHER, _MISSING]
    return _Levels(table[encoded.indices.fill_null(len(encoded.dictionary)).to_numpy()], names)


def level_name(value: Any) -> str:
    """How a level is written, in reports and in `data.augment.oversample`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _bins(values: npt.NDArray[np.float64], num_bins: int) -> _Levels:
    """Between quantiles, the upper end included; a number with no more values than bins has a bin for each."""
    is_missing = np.isnan(values)
    distinct = np.unique(values[~is_missing])
    if len(distinct) <= num_bins:
        names = [f"{value:g}" for value in distinct]
        codes = np.searchsorted(distinct, values)
    else:
        edges = np.unique(np.quantile(values[~is_missing], np.linspace(0, 1, num_bins + 1), method="inverted_cdf"))
        names = [f"{low:g}..{high:g}" for low, high in pairwise(edges)]
        codes = np.searchsorted(edges[1:-1], values, side="left")
    return _Levels(np.where(is_missing, len(names), codes).astype(np.int64), [*names, _MISSING])
