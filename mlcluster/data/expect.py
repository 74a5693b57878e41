"""What the data must satisfy: rules of a value, held against the rows of one block, and rules of a whole column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlcluster.data.statistics import NumberPartial, merge_all, number_partial
from mlcluster.data.target import missing_mask
from mlcluster.data.transform import numbers_of
from mlcluster.errors import DataError
from mlcluster.spec import Expectation, Range

# Up to here a look at each value beats the kernels (a few microseconds a call).
_FEW_ROWS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """One rule that rows break: `rows` (k,) are row numbers, ascending, and `example` is the value in the first."""

    column: str
    rule: str
    rows: npt.NDArray[np.int64]
    example: str

    @property
    def reason(self) -> str:
        return f"{self.column}: {self.rule}"


def reasons_by_row(broken: Sequence[Violation]) -> dict[int, str]:
    """For each row that breaks a rule, all the reasons."""
    reasons: dict[int, str] = {}
    for violation in broken:
        for row in violation.rows.tolist():
            reasons[row] = f"{reasons[row]}; {violation.reason}" if row in reasons else violation.reason
    return reasons


def violations(table: pa.Table, expectations: Mapping[str, Expectation], first_row: int = 0) -> list[Violation]:
    """The rules that hold row by row (all but `unique`), where they are broken. Rows count from `first_row`.

    Raises:
        DataError: a rule does not fit the type of its column.
    """
    found: list[Violation] = []
    for name, expectation in expectations.items():
        column = table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        for rule, broken in _broken(name, column, expectation):
            rows = np.flatnonzero(broken)
            if len(rows):
                example = repr(column[int(rows[0])].as_py())
                found.append(Violation(column=name, rule=rule, rows=rows.astype(np.int64) + first_row, example=example))
    return found


def _broken(name: str, column: pa.ChunkedArray, expectation: Expectation) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    rules: list[tuple[str, npt.NDArray[np.bool_]]] = []
    is_missing = missing_mask(column)
    if expectation.not_null:
        rules.append(("is missing", is_missing))
    if expectation.min is not None or expectation.max is not None:
        try:
            numbers = numbers_of(column)
        except DataError:
            raise DataError(
                f"data.expect.{name} = a range does not fit a column of type {column.type}; list its values."
            ) from None
        if expectation.min is not None:
            rules.append((f"is below {expectation.min:g}", numbers < expectation.min))
        if expectation.max is not None:
            rules.append((f"is above {expectation.max:g}", numbers > expectation.max))
    if expectation.one_of is not None:
        rules.append(("is none of the listed values", ~_is_in(name, column, expectation.one_of) & ~is_missing))
    return rules


def _is_in(name: str, column: pa.ChunkedArray, allowed: tuple[object, ...]) -> npt.NDArray[np.bool_]:
    try:
        values = pa.array(allowed, type=column.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        raise DataError(
            f"data.expect.{name} = {list(allowed)} does not fit a column of type {column.type}; write such values."
        ) from None
    return np.asarray(pc.is_in(column, value_set=values).to_numpy(), dtype=np.bool_)


def repeated_rows(hashes: npt.NDArray[np.uint64], is_missing: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The rows whose value stood in an earlier row; missing values are no repeats."""
    present = np.flatnonzero(~is_missing)
    _, first = np.unique(hashes[present], return_index=True)
    is_first = np.zeros(len(present), dtype=np.bool_)
    is_first[first] = True
    return present[~is_first].astype(np.int64)


def falling_rows(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The rows whose value is below the last one before it; `values` (n,) are NaN where missing."""
    present = np.flatnonzero(~np.isnan(values))
    held = values[present]
    return present[1:][held[1:] < held[:-1]].astype(np.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnSummary:
    """What one block of `num_rows` says about a column that a rule of the whole column is about."""

    num_rows: int
    num_missing: int
    numbers: NumberPartial | None
    """None for a column without a rule about its median."""


def summarise(table: pa.Table, expectations: Mapping[str, Expectation]) -> dict[str, ColumnSummary]:
    """The summaries that the rules of whole columns need.

    Raises:
        DataError: a rule about the median does not fit the type of its column.
    """
    found = {}
    for name, expectation in expectations.items():
        if expectation.missing is None and expectation.median is None:
            continue
        column = table.column(name)
        try:
            numbers = number_partial(column) if expectation.median is not None else None
        except DataError:
            raise DataError(
                f"data.expect.{name} = a median does not fit a column of type {column.type}; list its values."
            ) from None
        missing = int(missing_mask(column).sum())
        found[name] = ColumnSummary(num_rows=len(column), num_missing=missing, numbers=numbers)
    return found


def column_violations(
    summaries: Sequence[Mapping[str, ColumnSummary]], expectations: Mapping[str, Expectation]
) -> list[tuple[str, str]]:
    """Columns with the rule of the whole column that they break, in words: `its median is 38000, not 17..90`."""
    found = []
    for name in summaries[0] if summaries else ():
        parts = [summary[name] for summary in summaries]
        expectation = expectations[name]
        share = sum(part.num_missing for part in parts) / max(sum(part.num_rows for part in parts), 1)
        if expectation.missing is not None and not _holds(share, expectation.missing):
            found.append((name, f"{share:.1%} of its values are missing, not {range_text(expectation.missing)}"))
        numbers = [part.numbers for part in parts if part.numbers is not None]
        if expectation.median is None or not numbers:
            continue
        merged = merge_all(numbers)
        assert isinstance(merged, NumberPartial)
        median = merged.quantile(0.5)
        if not _holds(median, expectation.median):
            found.append((name, f"its median is {median:g}, not {range_text(expectation.median)}"))
    return found


def _holds(value: float, bounds: Range) -> bool:
    low, high = bounds.min, bounds.max
    return (low is None or value >= low) and (high is None or value <= high)


def range_text(bounds: Range | Expectation) -> str:
    """`0..120`."""
    low, high = (("" if end is None else f"{end:g}") for end in (bounds.min, bounds.max))
    return f"{low}..{high}"


def first_broken(table: pa.Table, expectations: Mapping[str, Expectation]) -> tuple[str, str, int] | None:
    """The column, the rule and the row (from 0) of the first value that breaks a rule of a value; None if none does."""
    if table.num_rows > _FEW_ROWS:
        found = violations(table, expectations)
        return (found[0].column, found[0].rule, int(found[0].rows[0])) if found else None
    for name, expectation in expectations.items():
        for row, value in enumerate(table.column(name).to_pylist()):
            rule = _broken_rule(value, expectation)
            if rule is not None:
                return name, rule, row
    return None


def _broken_rule(value: object, rule: Expectation) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "is missing" if rule.not_null else None
    if rule.min is not None and isinstance(value, int | float) and value < rule.min:
        return f"is below {rule.min:g}"
    if rule.max is not None and isinstance(value, int | float) and value > rule.max:
        return f"is above {rule.max:g}"
    return "is none of the listed values" if rule.one_of is not None and value not in rule.one_of else None


def expectation_text(expectation: Expectation) -> str:
    """An expectation as a person writes it: `0..120, not_null`."""
    words = []
    if expectation.min is not None or expectation.max is not None:
        words.append(range_text(expectation))
    if expectation.type is not None:
        words.append(expectation.type)
    words += [name for name in ("not_null", "unique", "increasing") if getattr(expectation, name)]
    words += [
        f"{name} {range_text(bounds)}"
        for name, bounds in (("missing", expectation.missing), ("median", expectation.median))
        if bounds is not None
    ]
    if expectation.one_of is not None:
        words.append(str(list(expectation.one_of)))
    return ", ".join(words) or "anything"
