"""Numbers of the report as people write them, and text that came from elsewhere made safe for a page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

_LONGEST = 160
"""Letters of any one value that a page shows."""


def usd_text(usd: float) -> str:
    """Cents, or two significant digits of what is less: `$3.10`, `$0.0036`."""
    if not usd > 0:
        return "$0.00"
    decimals = min(8, max(2, 1 - math.floor(math.log10(usd))))
    return f"${usd:,.{decimals}f}"


def usd_tick(usd: float) -> str:
    """A round sum on a logarithmic axis, with the one digit that counts."""
    return f"${usd:,.{max(0, -math.floor(math.log10(usd) + 1e-9))}f}" if usd > 0 else "$0"


def seconds_text(seconds: float) -> str:
    """`0.42 s`, `13 s`, `2 min 10 s`, `1 h 05 min`."""
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds >= 0.01 else f"{seconds * 1000:.1g} ms"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def score_text(value: float | None) -> str:
    """Four decimals, or four significant digits of what is large; a dash for none."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.4g}"


def gain_text(gain: float, metric: str, *, is_more_better: bool) -> str:
    """A difference in score: in points, hundredths, where 1 is the best there is; else in the metric's own units."""
    return f"{100 * gain:.2g} points of {metric}" if is_more_better else f"{gain:.2g} of {metric}"


def share_text(share: float) -> str:
    """A percentage; `< 1 %` for what is little, and never 100 % for what is not all."""
    if 0 < share < 0.01:
        return "< 1 %"
    return f"{math.floor(100 * share) if 0.99 < share < 1 else round(100 * share)} %"


def count_text(number: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def short(value: object) -> str:
    """Any value as text of bounded length, control characters shown as their codes; not escaped yet."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[: _LONGEST + 1])
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"


def safe(value: object) -> str:
    """As `short`, and escaped for HTML."""
    return escape(short(value))


def configuration_text(configuration: Mapping[str, object]) -> str:
    """`learning_rate 0.1, depth 3`; not escaped yet."""
    return ", ".join(f"{short(name)} {short(value)}" for name, value in configuration.items())
