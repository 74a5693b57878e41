"""Where the rows of a source went, in one line."""

from __future__ import annotations

from collections.abc import Mapping


def rows_line(counts: Mapping[str, int]) -> str:
    """`569 rows: 333 train, 119 validation, 117 test`, and what was left out and why. The numbers add up."""
    parts = [f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if name != "source" and count]
    return f"{counts['source']} rows: {', '.join(parts)}"
