"""Rungs in cost: a rung is a sum of nominal seconds, not a number of epochs.

A cheap configuration trains for many units before the first rung and an expensive one for few, so that trials meet at
equal money. A trial whose whole training costs less than a rung is complete there, and stands at every higher rung
with its final score for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

REDUCTION_FACTOR = 3


def rung_levels(full_costs: Sequence[float], *, num_rungs: int = 4, lowest_seconds: float = 0.3) -> tuple[float, ...]:
    """Nominal seconds at which each rung stands, lowest first; the last is the most expensive full training.

    `full_costs` are the nominal seconds of whole trainings. Rungs below `lowest_seconds`, where starting a
    trial costs more than training it, are left out.
    """
    top = max(full_costs)
    levels = [top / REDUCTION_FACTOR**step for step in range(num_rungs)]
    kept = [level for level in levels if level >= lowest_seconds] or [top]
    return tuple(reversed(kept))


def units_within(level_seconds: float, cost_of: Callable[[int], float], *, max_units: int) -> int:
    """The most units, at least one, whose nominal cost stays within a rung; `cost_of` grows with units."""
    low, high = 1, max_units
    while low < high:
        middle = (low + high + 1) // 2
        if cost_of(middle) <= level_seconds:
            low = middle
        else:
            high = middle - 1
    return low
