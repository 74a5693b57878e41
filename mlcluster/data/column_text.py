"""Columns that are not what they seem: the same as another one, or numbers that are written as text."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mlcluster.data.findings import Finding, Severity
from mlcluster.data.statistics import CategoryPartial, ColumnPartial

# From this share of its rows on, a column of text is taken for numbers that something is mixed into.
_NUMERIC_SHARE = 0.8


def duplicate_columns(hashes: Mapping[str, int]) -> list[Finding]:
    """Columns that hold in every row what an earlier one holds; `hashes` by name, in the order of the source."""
    first: dict[int, str] = {}
    findings = []
    for name, value in hashes.items():
        if value in first:
            message = f"{name} holds the same as {first[value]} in every row; exclude one of them."
            findings.append(Finding(kind="duplicate_column", column=name, message=message))
        first.setdefault(value, name)
    return findings


def mixed_types(partials: Mapping[str, ColumnPartial]) -> list[Finding]:
    """Columns of text of which most rows are numbers."""
    findings = []
    for name, partial in partials.items():
        if not isinstance(partial, CategoryPartial) or not partial.count:
            continue
        is_number = np.array([_is_number(level) for level in partial.levels.to_pylist()])
        share = float(partial.counts[:-1][is_number].sum() / partial.count)
        if share < _NUMERIC_SHARE:
            continue
        others = partial.counts[:-1] * ~is_number
        example = partial.levels[int(others.argmax())].as_py() if others.any() else None
        message = (
            f"{name} is text, but {share:.1%} of its values are numbers, and {example!r} is not; say what that means."
            if example is not None
            else f"{name} is text, but all its values are numbers; write it as a number, or leave it as a code."
        )
        severity: Severity = "warning" if example is not None else "info"
        findings.append(Finding(kind="mixed_types", column=name, message=message, value=share, severity=severity))
    return findings


def _is_number(level: object) -> bool:
    try:
        float(str(level))
    except ValueError:
        return False
    return not str(level).strip().lower().startswith(("nan", "inf", "-inf"))
