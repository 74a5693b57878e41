"""What the search believes of its trials: the curve model, shown what was reported and what runs."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass

import numpy as np

from mlcluster.search.curve_model import CurveModel, Floats, Likeness, fallen_mean
from mlcluster.search.joint_space import JointSpace
from mlcluster.search.trial_table import Ints, TrialTable
from mlcluster.search.warped_losses import LossScale

FULL_FIDELITY = 50.0
"""What a whole training is on the model's axis of fidelity, whatever a family's units are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BeliefSettings:
    """How much the model is shown, and how often it is fitted."""

    max_observations: int = 150
    """All of the best, some of the rest: a decision is cubic in them."""
    refit_factor: float = 1.3
    """Hyperparameters are fitted anew when there are so many times the observations."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """Warped losses: the lowest seen, the lowest that is expected of a known trial at its end, and the best trials."""

    lowest_seen: float
    lowest_expected: float
    best_rows: Ints
    """By what is expected of them, best first."""


class Beliefs:
    """Observations of (trial, units, loss), and the model of them. Forecasts hold from `condition` to the next one."""

    def __init__(self, space: JointSpace, table: TrialTable, settings: BeliefSettings, *, seed: int) -> None:
        self.model = CurveModel(space.num_axes, num_varying_axes=space.most_own_axes)
        self._table = table
        self._settings = settings
        self._seed = seed
        # Not lists, for each decision makes numpy's of them.
        self._rows = array("q")
        self._fidelities = array("d")
        self._losses = array("d")
        self._best = math.inf
        self._num_fitted = 0
        self._scale = LossScale(median=0.0, spread=1.0)
        self._level = 0.0

    def __len__(self) -> int:
        return len(self._rows)

    def observe(self, row: int, *, units: int, loss: float) -> None:
        """Takes a report. The model is fitted here, never when asked: the same reports end with the same model."""
        self._rows.append(row)
        self._fidelities.append(FULL_FIDELITY * units / int(self._table.whole_units[row]))
        self._losses.append(loss)
        self._best = min(self._best, loss) if math.isfinite(loss) else self._best
        if len(self) >= self._settings.refit_factor * self._num_fitted + 4:
            self._num_fitted = len(self)
            rng = np.random.default_rng([self._seed, len(self), 1])
            points, fidelities, warped = self._shown(LossScale.of(np.array(self._losses)), rng)
            self.model.fit(points, fidelities, warped - prior_level(warped, fidelities))

    def condition(self, rng: np.random.Generator) -> None:
        """Shows the model what was seen, and what runs as if it had come to what is expected of it."""
        self._scale = LossScale.of(np.array(self._losses))
        points, fidelities, warped = self._shown(self._scale, rng)
        self._level = prior_level(warped, fidelities)
        losses = warped - self._level
        self.model.condition(points, fidelities, losses)
        running = np.nonzero(self._table.targets > 0)[0][-self._settings.max_observations // 2 :]
        if len(running):
            ahead = FULL_FIDELITY * self._table.targets[running] / self._table.whole_units[running]
            at = self._table.points[running]
            believed = self.model.forecast(self.model.likeness(at), ahead).means
            self.model.condition(
                np.concatenate([points, at]),
                np.concatenate([fidelities, ahead]),
                np.concatenate([losses, believed]),
            )

    def expected_ends(self, rows: Ints) -> Floats:
        """What trials would have come to at their last rungs, shape (len(rows),), on the model's scale."""
        table = self._table
        ends = FULL_FIDELITY * table.ladders[rows, -1] / table.whole_units[rows]
        return self.model.forecast(self.model.likeness(table.points[rows]), ends).means

    def outlook(self, standing: Ints, *, num_best: int) -> Outlook:
        """Over the standing trials, the running and the last finished ones; on the model's scale."""
        table = self._table
        others = table.is_open & ((table.targets > 0) | (table.units >= table.ladders[:, -1]))
        rows = np.concatenate([standing, np.nonzero(others)[0][-self._settings.max_observations :]])
        lowest_seen = float(self._scale.warp(np.array(self._losses)).min()) - self._level
        if not len(rows):
            return Outlook(lowest_seen=lowest_seen, lowest_expected=lowest_seen, best_rows=rows)
        ends = self.expected_ends(rows)
        return Outlook(
            lowest_seen=lowest_seen,
            lowest_expected=min(lowest_seen, float(ends.min())),
            best_rows=rows[np.argsort(ends, kind="stable")[:num_best]],
        )

    def loss_per_warped(self) -> float:
        """What a unit of the model's scale is in the metric's units, where the best loss seen lies."""
        return self._scale.slope(self._best if math.isfinite(self._best) else 0.0)

    def prospects(self, likeness: Likeness, index: int) -> str:
        """What is expected at the end at one of these points, and the best loss seen, in the metric's units."""
        one = Likeness(smooth=likeness.smooth[index : index + 1], rough=likeness.rough[index : index + 1])
        forecast = self.model.forecast(one, np.array([FULL_FIDELITY]))
        middle, spread = float(forecast.means[0]) + self._level, math.sqrt(float(forecast.variances[0]))
        low, high = self._scale.unwarp(middle - spread), self._scale.unwarp(middle + spread)
        best = self._best if math.isfinite(self._best) else math.nan
        return f"should end with a loss between {low:.4g} and {high:.4g} (best seen {best:.4g})"

    def _shown(self, scale: LossScale, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
        warped = scale.warp(np.array(self._losses))
        kept = best_and_some(warped, self._settings.max_observations, rng)
        rows = np.array(self._rows)[kept]
        return self._table.points[rows], np.array(self._fidelities)[kept], warped[kept]


def prior_level(warped: Floats, fidelities: Floats) -> float:
    """Around which the model's prior lies: the mean, less what training is expected to change."""
    return float(np.mean(warped - fallen_mean(fidelities)))


def best_and_some(losses: Floats, count: int, rng: np.random.Generator) -> Ints:
    """Indices, in order: the lowest half of `count`, and random others."""
    if len(losses) <= count:
        return np.arange(len(losses))
    order = np.argsort(losses, kind="stable")
    best, rest = order[: count // 2], order[count // 2 :]
    return np.sort(np.concatenate([best, rng.permutation(rest)[: count - len(best)]]))
