"""Where the source as a whole breaks a rule of `data.expect`, and what becomes of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mlcluster.data.expect import Violation, expectation_text, falling_rows, reasons_by_row, repeated_rows
from mlcluster.data.findings import Finding
from mlcluster.data.survey import SurveyPart
from mlcluster.errors import DataError
from mlcluster.spec import DataSpec


def all_violations(spec: DataSpec, parts: Sequence[SurveyPart], starts: npt.NDArray[np.int64]) -> list[Violation]:
    """One violation a rule over the whole source; rows are numbers within the source."""
    merged: dict[tuple[str, str], list[tuple[int, Violation]]] = {}
    for part, start in zip(parts, starts, strict=True):
        for violation in part.violations:
            merged.setdefault((violation.column, violation.rule), []).append((int(start), violation))
    found = [
        Violation(
            column=column,
            rule=rule,
            rows=np.concatenate([violation.rows + start for start, violation in each]),
            example=each[0][1].example,
        )
        for (column, rule), each in merged.items()
    ]
    for name, expectation in spec.expect.items():
        if expectation.unique:
            hashes = np.concatenate([part.unique[name][0] for part in parts])
            rows = repeated_rows(hashes, np.concatenate([part.unique[name][1] for part in parts]))
            if len(rows):
                found.append(Violation(column=name, rule="repeats an earlier row", rows=rows, example="not unique"))
        if expectation.increasing:
            values = np.concatenate([part.ordered[name] for part in parts])
            rows = falling_rows(values)
            if len(rows):
                example = f"{values[rows[0]]:g}"
                found.append(Violation(column=name, rule="is below the row before", rows=rows, example=example))
    return found


def by_block(bad_rows: Mapping[int, str], starts: npt.NDArray[np.int64]) -> tuple[Mapping[int, str], ...]:
    """Row numbers in the source as numbers within the blocks, which start at `starts` (blocks + 1,)."""
    blocks: tuple[dict[int, str], ...] = tuple({} for _ in starts[:-1])
    rows = sorted(bad_rows)
    for row, block in zip(rows, np.searchsorted(starts, rows, side="right") - 1, strict=True):
        blocks[block][row - int(starts[block])] = bad_rows[row]
    return blocks


def act_on(spec: DataSpec, broken: Sequence[Violation]) -> tuple[dict[int, str], list[Finding]]:
    """The rows to quarantine with their reasons, and the findings."""
    findings = []
    for violation in broken:
        rows = violation.rows
        first = ", ".join(str(row) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
        if spec.bad_rows == "fail":
            raise DataError(
                f"{_asked_text(violation.column, spec)} is broken by {len(rows)} rows ({violation.rule}; "
                f"rows {first} from 0; first value {violation.example}); "
                "fix them, or set data.bad_rows to quarantine or warn."
            )
        done = "quarantined" if spec.bad_rows == "quarantine" else "kept"
        message = f"{violation.reason} in {len(rows)} rows ({first}; first value {violation.example}); they are {done}."
        findings.append(Finding(kind="bad_rows", column=violation.column, message=message, value=float(len(rows))))
    return (reasons_by_row(broken) if spec.bad_rows == "quarantine" else {}), findings


def _asked_text(column: str, spec: DataSpec) -> str:
    if column in spec.expect:
        return f"data.expect.{column} = {expectation_text(spec.expect[column])}"
    return f"data.source = images in {column}"


def act_on_columns(spec: DataSpec, broken: Sequence[tuple[str, str]], *, is_lenient: bool = False) -> list[Finding]:
    """Findings under `warn` or where one is lenient; no row can be set aside for a column, so that all else fails."""
    findings = []
    for column, problem in broken:
        if spec.bad_rows != "warn" and not is_lenient:
            raise DataError(
                f"data.expect.{column} = {expectation_text(spec.expect[column])} is broken by the whole column "
                f"({problem}); look at where it comes from, or set data.bad_rows to warn."
            )
        done = "all rows are kept" if spec.bad_rows == "warn" else "a run stops here"
        findings.append(Finding(kind="bad_rows", column=column, message=f"{column}: {problem}; {done}."))
    return findings
