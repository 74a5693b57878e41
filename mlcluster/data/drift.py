"""What moves over time: each column's distribution in slices of time that hold about as many rows.

A column drifts where a slice is both far from the first and farther than chance would take it. Far is the population
stability index, sum of (q - p) ln(q / p) over cells, less what it comes to without any drift, (k - 1) (1/n + 1/m):
over slices of 100 rows that alone would be 0.18 for ten cells. Chance is Pearson's test, of all slices or of the one
against the first, at one in a thousand for all columns and slices together; it takes rows for independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlcluster.data.cells import CodeVector, is_number_type, level_codes, number_codes
from mlcluster.data.findings import Finding, Severity
from mlcluster.data.split import time_values
from mlcluster.data.target import missing_mask
from mlcluster.data.transform import numbers_of

DRIFT_PSI = 0.1
"""From here on a distribution counts as moved."""
_GRAVE_PSI = 0.25
NUM_SLICES = 8
_MIN_SLICE_ROWS = 100
_MAX_BINS, _ROWS_PER_BIN = 10, 15
_MAX_LEVELS, _SHOWN_LEVELS = 20, 4
# A number with no more values is shown like levels.
_FEW_VALUES = 6
# A cell that no slice has so often is put together with others.
_MIN_CELL_ROWS = 5
_FALSE_ALARM_RATE = 1e-3
QUANTILES = (0.1, 0.5, 0.9)

FloatVector = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeSlice:
    """Rows from one moment to another, both included, as text."""

    start: str
    stop: str
    num_rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceOfColumn:
    """A column within one slice; `psi` is against the first slice, and 0 where it is no farther than by chance."""

    missing_share: float
    psi: float
    quantiles: tuple[float, ...] | None = None
    """At 10, 50 and 90 %, of a number; None where all are missing."""
    shares: tuple[float, ...] | None = None
    """Of the column's `levels`, among all rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnDrift:
    """One column over all slices."""

    name: str
    psi: float
    """The largest of the slices."""
    is_drift: bool
    moved: str
    """What moved most, in words: `missing 5.0 % to 30.0 %`."""
    slices: tuple[SliceOfColumn, ...]
    levels: tuple[str, ...] = ()
    """The most frequent ones, of a column that is no number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftOverTime:
    """Every column over the slices of the column `time`; those that moved most come first."""

    time: str
    slices: tuple[TimeSlice, ...]
    columns: tuple[ColumnDrift, ...]

    def findings(self, without: frozenset[str] = frozenset()) -> list[Finding]:
        """One for each column that drifts, but for those that are spoken of already."""
        found = []
        for column in self.columns:
            if not column.is_drift or column.name in without:
                continue
            worst = max(range(len(self.slices)), key=lambda place: column.slices[place].psi)
            message = (
                f"{column.name} drifts over {self.time}: PSI {column.psi:.2f} between the rows up to "
                f"{self.slices[0].stop} and those from {self.slices[worst].start} on ({column.moved}); "
                "what is learned of it will not hold for long."
            )
            severity: Severity = "warning" if column.psi >= _GRAVE_PSI else "info"
            found.append(
                Finding(kind="drift", column=column.name, message=message, value=column.psi, severity=severity)
            )
        return found


def measure_drift(table: pa.Table, time: str, columns: Sequence[str]) -> DriftOverTime | None:
    """Each of `columns` over slices of `time`; None where rows or moments are too few.

    Rows of one moment are in one slice; those without a time do not count.
    """
    times = time_values(table.column(time), time)
    has_time = ~np.isnan(times)
    table, times = table.filter(pa.array(has_time)), times[has_time]
    slices = _slices(times)
    if slices is None:
        return None
    num_slices = int(slices.max()) + 1
    sizes = np.bincount(slices)
    is_number = is_number_type(table.schema.field(time).type)
    ends = [(float(times[slices == place].min()), float(times[slices == place].max())) for place in range(num_slices)]
    num_looks = max(1, len(columns) * num_slices)  # each slice but the first, and all together
    found = [_column_drift(name, table.column(name), slices, _FALSE_ALARM_RATE / num_looks) for name in columns]
    return DriftOverTime(
        time=time,
        slices=tuple(
            TimeSlice(start=_moment(low, is_number), stop=_moment(high, is_number), num_rows=size)
            for (low, high), size in zip(ends, sizes.tolist(), strict=True)
        ),
        columns=tuple(sorted(found, key=lambda column: (-column.psi, column.name))),
    )


def _slices(times: FloatVector) -> CodeVector | None:
    """The slice of each row, (n,), from 0; None for fewer than two."""
    num_slices = min(NUM_SLICES, len(times) // _MIN_SLICE_ROWS)
    moments, counts = np.unique(times, return_counts=True)
    if num_slices < 2 or len(moments) < 2:
        return None
    before = np.cumsum(counts)[:-1]  # rows up to each moment but the last
    cuts = {int(np.argmin(np.abs(before - len(times) * place / num_slices))) for place in range(1, num_slices)}
    kept: list[int] = []
    rows = 0
    for cut in sorted(cuts):
        if before[cut] - rows >= _MIN_SLICE_ROWS and len(times) - before[cut] >= _MIN_SLICE_ROWS:
            kept.append(cut)
            rows = int(before[cut])
    if not kept:
        return None
    return np.searchsorted(moments[kept], times, side="left").astype(np.int64)


def _column_drift(name: str, column: pa.ChunkedArray, slices: CodeVector, alarm_rate: float) -> ColumnDrift:
    num_slices = int(slices.max()) + 1
    rows_per_slice = len(slices) // num_slices
    numbers = numbers_of(column) if is_number_type(column.type) else None
    if numbers is not None and len(np.unique(numbers[~np.isnan(numbers)])) <= _FEW_VALUES:
        numbers = None
    levels: list[object] = []
    if numbers is not None:
        codes, ends = number_codes(numbers, min(_MAX_BINS, max(2, rows_per_slice // _ROWS_PER_BIN)))
        num_cells = len(ends) + 2
    else:
        codes, levels = level_codes(column, _MAX_LEVELS)
        num_cells = len(levels) + 2
    counts = np.bincount(slices * num_cells + codes, minlength=num_slices * num_cells).reshape(num_slices, num_cells)
    psi = _psi_by_slice(counts, alarm_rate)
    words = tuple(_level_text(level) for level in levels[:_SHOWN_LEVELS])
    parts = tuple(
        _slice_of_column(
            missing_share=float(missing_mask(column.filter(pa.array(slices == place))).mean()),
            psi=float(psi[place]),
            numbers=None if numbers is None else numbers[slices == place],
            shares=None if numbers is not None else counts[place, : len(words)] / counts[place].sum(),
        )
        for place in range(num_slices)
    )
    worst = int(psi.argmax())
    return ColumnDrift(
        name=name,
        psi=float(psi[worst]),
        is_drift=bool(psi[worst] >= DRIFT_PSI),
        moved=_moved(counts[0], counts[worst], parts[0], parts[worst], levels),
        slices=parts,
        levels=words,
    )


def _slice_of_column(
    *, missing_share: float, psi: float, numbers: FloatVector | None, shares: FloatVector | None
) -> SliceOfColumn:
    quantiles = None
    if numbers is not None and not np.isnan(numbers).all():
        present = np.clip(numbers[~np.isnan(numbers)], -1e300, 1e300)
        quantiles = tuple(float(each) for each in np.quantile(present, QUANTILES, method="inverted_cdf"))
    return SliceOfColumn(
        missing_share=round(missing_share, 6),
        psi=round(psi, 4),
        quantiles=quantiles,
        shares=None if shares is None else tuple(round(float(each), 6) for each in shares),
    )


def _psi_by_slice(counts: Counts, alarm_rate: float) -> FloatVector:
    """The index of each slice against the first, (slices,), from counts (slices, cells); 0 where it may be chance."""
    is_any = _is_beyond_chance(counts, alarm_rate)
    return np.array(
        [
            stability_index(counts[0], each)
            if is_any or _is_beyond_chance(np.stack([counts[0], each]), alarm_rate)
            else 0.0
            for each in counts
        ]
    )


def _is_beyond_chance(counts: Counts, alarm_rate: float) -> bool:
    """Whether rows of `counts` (m, k) differ by more than independent draws from one distribution do."""
    cells = _merged_cells(counts)
    freedom = (cells.shape[1] - 1) * (len(cells) - 1)
    if not freedom:
        return False
    expected = cells.sum(axis=0) * cells.sum(axis=1, keepdims=True) / cells.sum()
    return bool(((cells - expected) ** 2 / expected).sum() > _chi_square_quantile(1 - alarm_rate, freedom))


def _merged_cells(counts: Counts) -> FloatVector:
    """The cells that some slice has often enough, and one of all others."""
    is_kept = counts.max(axis=0) >= _MIN_CELL_ROWS
    cells = np.column_stack([counts[:, is_kept], counts[:, ~is_kept].sum(axis=1)])
    return cells[:, cells.sum(axis=0) > 0].astype(np.float64)


def stability_index(first: Counts, other: Counts) -> float:
    """The population stability index of two rows of counts, (k,), in nats, less what chance gives; at least 0."""
    cells = _merged_cells(np.stack([first, other]))
    totals = cells.sum(axis=1, keepdims=True)
    # Half a row a cell: an empty cell would make the logarithm infinite.
    p, q = (cells + 0.5) / (totals + 0.5 * cells.shape[1])
    by_chance = (cells.shape[1] - 1) * (1 / totals).sum()
    return max(0.0, float(((q - p) * np.log(q / p)).sum() - by_chance))


def _chi_square_quantile(share: float, freedom: int) -> float:
    """Wilson and Hilferty (1931): within 2 % for the shares and freedoms that are asked for here."""
    spread = 2 / (9 * freedom)
    cube_root = 1 - spread + NormalDist().inv_cdf(share) * math.sqrt(spread)
    return float(freedom * cube_root**3)


def _moved(first: Counts, other: Counts, before: SliceOfColumn, after: SliceOfColumn, levels: Sequence[object]) -> str:
    p, q = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (first, other))
    most = int(np.argmax((q - p) * np.log(q / p)))
    if most == len(first) - 1:
        return f"missing {before.missing_share:.1%} to {after.missing_share:.1%}"
    if levels:
        level = _level_text(levels[most]) if most < len(levels) else "rare levels"
        return f"share of {level} {first[most] / first.sum():.1%} to {other[most] / other.sum():.1%}"
    if before.quantiles is None or after.quantiles is None:
        return f"missing {before.missing_share:.1%} to {after.missing_share:.1%}"
    shown = (" / ".join(f"{value:.4g}" for value in part) for part in (before.quantiles, after.quantiles))
    return "quantiles at 10, 50, 90 % " + " to ".join(shown)


def _level_text(level: object) -> str:
    return str(level).lower() if isinstance(level, bool) else str(level)


def _moment(value: float, is_number: bool) -> str:
    if is_number:
        return f"{value:g}"
    text = str(np.datetime64(int(value), "us")).replace("T", " ").split(".", maxsplit=1)[0]
    return text.removesuffix(" 00:00:00")
