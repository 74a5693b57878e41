"""What the search knows of its trials, as columns: a decision looks at all of them at once.

Ten thousand trials are a few megabytes; the columns grow by doubling.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class TrialTable:
    """Row i is the i-th accepted trial. Columns are views of the filled part: write to them in place."""

    def __init__(self, *, num_axes: int, num_rungs: int) -> None:
        self._count = 0
        self._points = np.zeros((64, num_axes))
        self._ladders = np.zeros((64, num_rungs), dtype=np.int64)
        self._whole = np.ones(64, dtype=np.int64)
        self._families = np.zeros(64, dtype=np.int64)
        self._units = np.zeros(64, dtype=np.int64)
        self._targets = np.zeros(64, dtype=np.int64)
        self._seconds = np.zeros(64)
        self._losses = np.full(64, np.inf)
        self._open = np.zeros(64, dtype=np.bool_)

    def __len__(self) -> int:
        return self._count

    @property
    def points(self) -> Floats:
        """(n, num_axes): where each trial's configuration lies."""
        return self._points[: self._count]

    @property
    def ladders(self) -> Ints:
        """(n, num_rungs): units at each rung; never falling."""
        return self._ladders[: self._count]

    @property
    def whole_units(self) -> Ints:
        """(n,): units of a whole training, which the ladder may end below."""
        return self._whole[: self._count]

    @property
    def families(self) -> Ints:
        """(n,): the number of each trial's family."""
        return self._families[: self._count]

    @property
    def units(self) -> Ints:
        """(n,): units trained and reported."""
        return self._units[: self._count]

    @property
    def targets(self) -> Ints:
        """(n,): units that the trial is being trained to; 0 where it waits."""
        return self._targets[: self._count]

    @property
    def seconds(self) -> Floats:
        """(n,): seconds of training in all, what segments take beside it left out."""
        return self._seconds[: self._count]

    @property
    def losses(self) -> Floats:
        """(n,): the latest reported loss, infinite before the first."""
        return self._losses[: self._count]

    @property
    def is_open(self) -> Flags:
        """(n,): may still go on; not so the failed, and those that equal another trial."""
        return self._open[: self._count]

    def rungs_at(self, units: Ints) -> Ints:
        """(n,): the highest rung that each trial would have reached with so many units; -1 below the lowest."""
        return np.asarray((self.ladders <= units[:, None]).sum(axis=1) - 1)

    def add(self, point: Floats, ladder: Ints, *, whole_units: int, family: int = 0) -> int:
        """A new trial's row; families are numbered."""
        if self._count == len(self._units):
            self._grow()
        row = self._count
        self._points[row], self._ladders[row], self._open[row] = point, ladder, True
        self._whole[row], self._families[row] = whole_units, family
        self._count += 1
        return row

    def _grow(self) -> None:
        for name in (
            "_points",
            "_ladders",
            "_whole",
            "_families",
            "_units",
            "_targets",
            "_seconds",
            "_losses",
            "_open",
        ):
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.zeros_like(column)]))
        self._losses[self._count :] = np.inf
