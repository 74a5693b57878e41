"""Bounds that give way: where the best trials of a family stand at one, the search goes on beyond it.

A space that was declared too narrow hides the best configuration just outside of it. Where the best few trials that
came far all stand next to a bound, that bound moves by a quarter of the declared width, up to the limits of its domain;
one that is pinned has none. Evidence from before does not count twice: to move again, the best must stand at the new
bound.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mlcluster.search.candidate import Candidate
from mlcluster.search.joint_space import Floats
from mlcluster.spec import SearchSpace

_STEP = 0.25
"""In declared widths."""
_EDGE = 0.1
"""Whoever stands as near to a bound, in declared widths, stands at it."""
_NUM_BEST, _NUM_STOOD = 3, 5
"""So many of the best must agree, of at least so many that stood at the same rung; the lowest says too little."""


@dataclass(slots=True)
class _AtRung:
    num_stood: int = 0
    best: list[tuple[float, tuple[float, ...]]] = field(default_factory=list)
    """Loss and place of the best few, best first."""


class GrowingBounds:
    """Lower and upper units of each family's axes; (0, 1) until there is reason to grow."""

    def __init__(self, spaces: Mapping[str, SearchSpace]) -> None:
        self._spaces = spaces
        self._reach = {
            family: np.array([domain.reach for domain in space.values()]).T.reshape(2, -1)
            for family, space in spaces.items()
        }
        self._bounds = {family: np.repeat([[0.0], [1.0]], len(space), axis=1) for family, space in spaces.items()}
        self._rungs: dict[tuple[str, int], _AtRung] = {}

    def of(self, family: str) -> tuple[Floats, Floats]:
        """The lowest and the highest unit of each axis, shapes (its axes,)."""
        lows, highs = self._bounds[family]
        return lows, highs

    def observe(self, candidate: Candidate, own_point: Floats, *, rung: int, loss: float) -> str:
        """A trial has come to a rung; what grew because of that, in words, or nothing."""
        if rung == 0:
            return ""
        seen = self._rungs.setdefault((candidate.family, rung), _AtRung())
        seen.num_stood += 1
        insort(seen.best, (loss, tuple(own_point)))
        del seen.best[_NUM_BEST:]
        is_farthest = not any(
            family == candidate.family and above > rung and other.num_stood >= _NUM_STOOD
            for (family, above), other in self._rungs.items()
        )
        if seen.num_stood < _NUM_STOOD or not is_farthest:
            return ""
        return self._grow(candidate.family, np.array([place for _, place in seen.best]))

    def _grow(self, family: str, best: Floats) -> str:
        lows, highs = self._bounds[family]
        least, most = self._reach[family]
        falls = (best < lows + _EDGE).all(axis=0) & (lows > least)
        rises = (best > highs - _EDGE).all(axis=0) & (highs < most)
        lows[falls] = np.maximum(lows - _STEP, least)[falls]
        highs[rises] = np.minimum(highs + _STEP, most)[rises]
        return ", ".join(
            f"{family}.{name} may now go {'down' if falls[axis] else 'up'} to "
            f"{domain.at(float(lows[axis] if falls[axis] else highs[axis])):.4g}, "
            f"for the best {_NUM_BEST} stand at its bound"
            for axis, (name, domain) in enumerate(self._spaces[family].items())
            if falls[axis] or rises[axis]
        )
