"""Losses on a scale on which a model can compare them, whatever the metric and however bad the worst.

The inverse hyperbolic sine of (loss - median) / (median - lowest tenth): linear around the median, logarithmic far from
it, so that neither a diverged training nor one far ahead of the rest outweighs all others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mlcluster.search.joint_space import Floats

WORST = 3.0
"""Where all that is much worse than the median stands, diverged trainings among it."""
_GOOD_QUANTILE = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class LossScale:
    """A median and a spread, in the metric's units."""

    median: float
    spread: float

    @classmethod
    def of(cls, losses: Floats) -> LossScale:
        """The scale of these losses, of which some are finite."""
        finite = losses[np.isfinite(losses)]
        if not len(finite):
            return cls(median=0.0, spread=1.0)
        median, good = np.quantile(finite, [0.5, _GOOD_QUANTILE])
        return cls(median=float(median), spread=float(max(median - good, 1e-9 * max(1.0, abs(median)))))

    def warp(self, losses: Floats) -> Floats:
        """On the scale; infinite ones stand with the worst."""
        # Capped before it is divided: a great loss over a small spread would overflow.
        ceiling = self.unwarp(WORST)
        capped = np.where(np.isfinite(losses), np.minimum(losses, ceiling), ceiling)
        return np.where(capped < ceiling, np.minimum(np.arcsinh((capped - self.median) / self.spread), WORST), WORST)

    def slope(self, loss: float) -> float:
        """d loss / d warped, at a loss."""
        return math.hypot(self.spread, loss - self.median)

    def unwarp(self, value: float) -> float:
        """The loss at a place of the scale."""
        return self.median + self.spread * float(np.sinh(value))
