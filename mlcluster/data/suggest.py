"""What to expect of data, from what it is like today."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlcluster.data.profile import ColumnProfile

MAX_SUGGESTED_LEVELS = 20


def suggest_expect(columns: Sequence[ColumnProfile]) -> dict[str, Any]:
    """What holds for every row of the features, in the form that `data.expect` takes; a start to be edited."""
    suggested: dict[str, Any] = {}
    for column in columns:
        if column.role != "feature" or column.distinct in (None, 0):
            continue
        words = []
        if column.kind == "number" and isinstance(column.minimum, float) and isinstance(column.maximum, float):
            words.append(f"{_exact(column.minimum)}..{_exact(column.maximum)}")
        if not column.missing_share:
            words.append("not_null")
        levels = [bar.label for bar in column.bars]
        if column.kind == "category" and column.distinct == len(levels) <= MAX_SUGGESTED_LEVELS:
            listed = sorted(levels)
            suggested[column.name] = listed if column.missing_share else {"one_of": listed, "not_null": True}
        elif words:
            suggested[column.name] = ", ".join(words)
    return suggested


def _exact(value: float) -> str:
    """As short as gives the same number back: rounded ends would refuse the rows that they were taken from."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
