"""How the seconds of a training grow with its units: as a power of them, learnt for each family.

Were each unit to cost the same, the power would be one. Where a training starts slowly (compilation, caches, a first
epoch that is several), it is less: on LCBench the first of 50 epochs takes as long as four later ones, so that what
lies before a trial costs a third of what its first epoch would make one expect. Where it begins anew each time, it is
more.
"""

from __future__ import annotations

import numpy as np

from mlcluster.search.joint_space import Floats

_PRIOR = np.log(3.0)
"""Weight of "each unit costs the same", in logarithms of units: one rung's worth."""
_LOWEST, _HIGHEST = 0.3, 2.0


class CostGrowth:
    """The power by family, families by number."""

    def __init__(self, num_families: int) -> None:
        self._log_seconds = np.full(num_families, _PRIOR)
        self._log_units = np.full(num_families, _PRIOR)

    def observe(self, family: int, *, units: tuple[int, int], seconds: tuple[float, float]) -> None:
        """A trial has gone on: its units and all of its seconds, before and after."""
        if not (0 < units[0] < units[1] and 0 < seconds[0] < seconds[1]):
            return
        self._log_seconds[family] += np.log(seconds[1] / seconds[0])
        self._log_units[family] += np.log(units[1] / units[0])

    @property
    def powers(self) -> Floats:
        """Of each family, shape (num_families,)."""
        return np.asarray(np.clip(self._log_seconds / self._log_units, _LOWEST, _HIGHEST))
