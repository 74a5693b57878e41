"""What every value must satisfy, held against the rows of one block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlcluster.data.target import missing_mask
from mlcluster.data.transform import numbers_of
from mlcluster.errors import DataError
from mlcluster.spec import Expectation


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
