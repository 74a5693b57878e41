"""Spans of time as people write them."""

from __future__ import annotations

import re

_SPAN = re.compile(r"^(?P<count>\d+(?:\.\d+)?)\s*(?P<unit>[smhdw])$")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def span_seconds(text: str, units: str = "smhdw") -> float:
    """`7d` in seconds.

    Raises:
        ValueError: the text is no span of time in one of the units.
    """
    match = _SPAN.match(text)
    if match is None or match["unit"] not in units:
        raise ValueError("is no time span; write it like 30m, 12h, 7d or 2w")
    return float(match["count"]) * _SECONDS[match["unit"]]
