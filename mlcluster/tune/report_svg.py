"""Charts as inline SVG, placed in percent: they fit any width, while text, points and lines keep their size.

There is no viewBox. A picture that is scaled down to a telephone has letters of five pixels; here the plot shrinks and
the letters do not. Labels of the axes stand outside of the SVG's box, in the padding that its frame leaves for them.
Colours are classes, so that the page's style decides them, light or dark.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

NUM_COLOURS = 8
"""Classes `c0` to `c7`: one a family; with more families, colours repeat."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A range of values along one side of a chart. What lies outside is placed on its edge."""

    low: float
    high: float
    title: str
    text: Callable[[float], str]
    is_log: bool = False

    def share(self, value: float) -> float:
        """How far along the axis a value lies, from 0 to 1."""
        low, high, at = (self._scaled(one) for one in (self.low, self.high, value))
        return min(1.0, max(0.0, (at - low) / (high - low))) if high > low else 0.5

    def ticks(self) -> list[float]:
        """Round values within the range, about five."""
        return _log_ticks(self.low, self.high) if self.is_log else _even_ticks(self.low, self.high)

    def _scaled(self, value: float) -> float:
        return math.log(max(value, 1e-300)) if self.is_log else value


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """Two axes and what is drawn between them."""

    x: Axis
    y: Axis

    def across(self, value: float) -> str:
        """As an SVG coordinate."""
        return f"{100 * self.x.share(value):.2f}%"

    def up(self, value: float) -> str:
        """As an SVG coordinate, which counts from the top."""
        return f"{100 * (1 - self.y.share(value)):.2f}%"

    def line(self, name: str, start: tuple[float, float], end: tuple[float, float]) -> str:
        """From (x, y) to (x, y), in the style `name`."""
        (x1, y1), (x2, y2) = start, end
        return (
            f'<line class="{name}" x1="{self.across(x1)}" y1="{self.up(y1)}" '
            f'x2="{self.across(x2)}" y2="{self.up(y2)}"/>'
        )

    def stairs(self, name: str, corners: Sequence[tuple[float, float]]) -> str:
        """Level from each corner to the next one's x, then up or down to it."""
        drawn = []
        for (x1, y1), (x2, y2) in itertools.pairwise(corners):
            drawn.append(self.line(name, (x1, y1), (x2, y1)))
            if y1 != y2:
                drawn.append(self.line(name, (x2, y1), (x2, y2)))
        return "".join(drawn)

    def dot(self, name: str, x: float, y: float, *, title: str, radius: float = 3.5) -> str:
        """A point that says what it is when it is pointed at."""
        return (
            f'<circle class="{name}" cx="{self.across(x)}" cy="{self.up(y)}" r="{radius:.3g}">'
            f"<title>{escape(title)}</title></circle>"
        )

    def spot(self, name: str, x: float, y: float, *, title: str, radius: float = 5.0) -> str:
        """A point to be found by keyboard, too: its title stands above the chart while it is pointed at or focused."""
        at = f'cx="{self.across(x)}" cy="{self.up(y)}"'
        return (
            f'<g class="spot" tabindex="0" role="img" aria-label="{escape(title)}">'
            f'<circle class="reach" {at} r="13"/><circle class="{name}" {at} r="{radius:.3g}"/>'
            f'<text class="tip" x="100%" y="0" dy="-12" text-anchor="end">{escape(title)}</text></g>'
        )

    def svg(self, marks: str, *, label: str) -> str:
        """The chart in its frame, with both axes."""
        return (
            f'<div class="frame"><span class="y-title">{escape(self.y.title)}</span>'
            f'<svg class="chart" role="group" aria-label="{escape(label)}">{self._grid()}{marks}</svg>'
            f'<span class="x-title">{escape(self.x.title)}</span></div>'
        )

    def _grid(self) -> str:
        drawn = []
        for value in self.y.ticks():
            at = self.up(value)
            drawn.append(f'<line class="grid" x1="0" x2="100%" y1="{at}" y2="{at}"/>')
            drawn.append(f'<text class="tick" x="0" y="{at}" dx="-8" dy="4" text-anchor="end">{self._y(value)}</text>')
        for number, value in enumerate(self.x.ticks()):
            at = self.across(value)
            thin = " thin" if number % 2 else ""
            drawn.append(
                f'<text class="tick{thin}" x="{at}" y="100%" dy="18" text-anchor="middle">'
                f"{escape(self.x.text(value))}</text>"
            )
        drawn.append('<line class="base" x1="0" x2="100%" y1="100%" y2="100%"/>')
        return f'<g aria-hidden="true">{"".join(drawn)}</g>'

    def _y(self, value: float) -> str:
        return escape(self.y.text(value))


def stacked_bar(parts: Sequence[tuple[str, float, str]], *, label: str, whole: float | None = None) -> str:
    """One bar of (style, amount, title) parts side by side; `whole` is the amount that fills the width."""
    total = sum(amount for _, amount, _ in parts) if whole is None else whole
    drawn, left = [], 0.0
    for name, amount, title in parts:
        share = amount / total if total > 0 else 0.0
        if share > 0:
            drawn.append(
                f'<rect class="{name}" x="{100 * left:.2f}%" width="{100 * share:.2f}%" height="100%">'
                f"<title>{escape(title)}</title></rect>"
            )
        left += share
    return f'<svg class="chart bar" role="img" aria-label="{escape(label)}">{"".join(drawn)}</svg>'


def strip(marks: Sequence[tuple[float, str]], *, style: str, label: str) -> str:
    """Points along one line, at shares from 0 to 1 of its width, each with its title; the last is drawn on top."""
    drawn = "".join(
        f'<circle class="{style}" cx="{100 * share:.2f}%" cy="50%" r="4"><title>{escape(title)}</title></circle>'
        for share, title in marks
    )
    line = '<line class="grid" x1="0" x2="100%" y1="50%" y2="50%"/>'
    return f'<svg class="chart strip" role="img" aria-label="{escape(label)}">{line}{drawn}</svg>'


def padded(low: float, high: float, *, share: float = 0.06) -> tuple[float, float]:
    """A range with some air around it, and never an empty one."""
    if not high > low:
        air = abs(low) * 0.05 or 0.5
        return low - air, high + air
    air = (high - low) * share
    return low - air, high + air


def tick_text(low: float, high: float, *, unit: str = "") -> Callable[[float], str]:
    """How the ticks between two values are written: all with as many decimals as the finest of them needs."""
    found = _even_ticks(low, high)

    def is_enough(decimals: int) -> bool:
        return all(math.isclose(round(one, decimals), one, abs_tol=1e-12) for one in found)

    decimals = next(filter(is_enough, range(9)), 9)
    return lambda value: f"{unit}{value:,.{decimals}f}" if value else f"{unit}0"


def _even_ticks(low: float, high: float, *, about: int = 5) -> list[float]:
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((multiple * power for multiple in (1, 2, 2.5, 5, 10)), key=lambda one: abs(math.log(one / rough)))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _log_ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for multiples in ((1, 2, 5), (1, 3), (1,)):
        found = [
            multiple * 10.0**power
            for power in range(first, last + 1)
            for multiple in multiples
            if low <= multiple * 10.0**power <= high
        ]
        if len(found) <= most:
            return found
    return found[:: math.ceil(len(found) / most)]
