"""Configurations that come to the very same thing, and how to stop proposing them.

Where whole numbers are rounded, or an axis has no effect, two configurations give the same losses to the last digit.
The second is a twin: it is not trained further, and what lies as near to a known trial as twins were found to lie is
proposed less.
"""

from __future__ import annotations

import math

import numpy as np

from mlcluster.search.joint_space import Floats

_RELATIVE_WIDTH = 0.15
"""Of the kernel over distances, as a share of the distance."""
_DOUBT = 0.5
"""Prior weight of "new after all", in observations."""


class Twins:
    """Learns from (distance to the nearest trial when proposed, whether it was a twin)."""

    def __init__(self) -> None:
        self._first_by_report: dict[tuple[str, int, float], str] = {}
        self._distances: list[float] = []
        self._was_twin: list[bool] = []
        self._num_twins = 0

    def twin_of(self, trial_id: str, family: str, *, units: int, loss: float) -> str | None:
        """The earlier trial of the family with exactly this loss at these units; those that diverged are no twins."""
        if not math.isfinite(loss):
            return None
        first = self._first_by_report.setdefault((family, units, loss), trial_id)
        return None if first == trial_id else first

    def learn(self, distance: float, *, was_twin: bool) -> None:
        """How near the nearest known trial was, and what came of it."""
        self._distances.append(distance)
        self._was_twin.append(was_twin)
        self._num_twins += was_twin

    def __bool__(self) -> bool:
        """Whether there was any; else everything is new, however near it lies."""
        return self._num_twins > 0

    @property
    def share(self) -> float:
        """Of the trials so far, those that were twins."""
        return self._num_twins / max(1, len(self._was_twin))

    def newness(self, distances: Floats) -> Floats:
        """The probability that candidates at these distances are no twins, shape (n,)."""
        if not self:
            return np.ones(len(distances))
        seen = np.array(self._distances[-2000:])
        widths = _RELATIVE_WIDTH * (distances[:, None] + 0.02)
        weights = np.exp(-0.5 * ((distances[:, None] - seen[None, :]) / widths) ** 2)
        twins = weights @ np.array(self._was_twin[-2000:], dtype=np.float64)
        return np.asarray(1 - twins / (weights.sum(axis=1) + _DOUBT))
