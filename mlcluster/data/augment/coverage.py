"""Which cells of the train split are thin: pairs of columns, levels of categories by quantile bins of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlcluster.data.cells import is_number_type, level_codes, number_codes
from mlcluster.data.findings import Finding
from mlcluster.data.transform import numbers_of
from mlcluster.errors import DataError
from mlcluster.spec import CoverageSpec, DataSpec

MAX_LEVELS = 32
"""Of a category with more, the rest is one level; its cells would all be thin."""
_TOLD_CELLS = 5
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

    def finding(self, num_train_rows: int, min_rows: int, *, share: float = 1.0) -> Finding:
        """`num_train_rows`, like the cell, are `share` of all train rows."""
        where = " and ".join(f"{name} = {level}" for name, level in zip(self.columns, self.levels, strict=True))
        num_rows, total, expected = (
            round(count / share) for count in (self.num_rows, num_train_rows, self.num_expected)
        )
        about = "about " if share < 1 else ""
        return Finding(
            kind="thin_slice",
            column=self.columns[0],
            value=float(num_rows),
            message=f"{where} has {about}{num_rows} of {total} train rows, under {min_rows} "
            f"({expected} if the two were independent); collect more, or see data.augment.oversample.",
        )


def covered_columns(spec: DataSpec, names: Sequence[str]) -> tuple[str, ...]:
    """The columns that the project itself asks to be covered: `augment.coverage.columns`, or the sensitive ones and the
    target, whose classes a group may hardly have. None where it names none.

    Raises:
        DataError: one of them is no column, or there is one only.
    """
    asked = spec.augment.coverage.columns
    for name in asked:
        if name not in names:
            raise DataError(f"data.augment.coverage.columns = {name} is no column; use some of {', '.join(names)}.")
    if len(asked) == 1:
        raise DataError(f"data.augment.coverage.columns = {asked[0]} makes no pair; name two columns or more.")
    return asked or ((*spec.sensitive, spec.target) if spec.sensitive else ())


def thin_findings(table: pa.Table, columns: Sequence[str], asked: CoverageSpec, *, share: float) -> list[Finding]:
    """The worst cells of train rows, and how many more there are; `table` holds `share` of them.

    Of a sample, a cell is thin where it would be if all rows were like these. Nothing is said where that is less than
    a row, nor of cells that hold no row and would hold less than `min_rows` were the columns apart.
    """
    min_rows = round(asked.min_rows * share)
    if not columns or not table.num_rows or min_rows < 1:
        return []
    cells = [
        cell
        for cell in thin_cells(table, columns, min_rows=min_rows, num_bins=asked.bins)
        if cell.num_rows or cell.num_expected >= min_rows
    ]
    findings = [cell.finding(table.num_rows, asked.min_rows, share=share) for cell in cells[:_TOLD_CELLS]]
    if len(cells) > _TOLD_CELLS:
        message = f"{len(cells) - _TOLD_CELLS} more cells of {', '.join(columns)} are thin; see mlcluster data augment."
        findings.append(Finding(kind="thin_slice", message=message, severity="info"))
    return findings


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
    if is_number_type(column.type):
        return _bins(numbers_of(column), num_bins)
    codes, levels = level_codes(column, MAX_LEVELS)
    return _Levels(codes, [*map(level_name, levels), _OTHER, _MISSING])


def level_name(value: Any) -> str:
    """How a level is written, in reports and in `data.augment.oversample`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _bins(values: npt.NDArray[np.float64], num_bins: int) -> _Levels:
    """Between quantiles, the upper end included; a number with no more values than bins has a bin for each.

    The lowest value, where it alone is a bin's share of the rows or more, has one for itself.
    """
    codes, ends = number_codes(values, num_bins)
    distinct = np.unique(values[~np.isnan(values)])
    if len(distinct) <= num_bins:
        names = [f"{value:g}" for value in distinct]
    else:
        edges = pairwise([distinct[0], *ends, distinct[-1]])
        names = [f"{low:g}..{high:g}" if low < high else f"{low:g}" for low, high in edges]
    return _Levels(codes, [*(names or [_OTHER]), _MISSING])
