"""How long a piece of training will take: the learner's own estimate, corrected by what was seen.

The learner counts work (operations, rows) and turns it into nominal seconds. What this machine makes of them is learnt
online: the logarithm of actual over nominal seconds, for each kind of work (a family on a device), as a Bayesian linear
regression on the configuration's place in its search space, squares and products included (Rasmussen & Williams 2006,
section 2.1). A worst case is an upper quantile of its posterior, so that it tightens as trials come in.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PRIOR_LOG_SIGMA = 0.9
"""Before anything was seen: nominal seconds are right within a factor of about 2.5 (one sigma)."""
LINEAR_LOG_SIGMA, SQUARE_LOG_SIGMA = 1.5, 0.6
"""How much the ratio may change along an axis of the search space, and bend."""
NOISE_LOG_SIGMA = 0.35
"""One training against its like: within a factor of 1.4 (one sigma)."""
WORST_CASE_SIGMAS = 2.5
MAX_LOG_RATIO = math.log(30.0)
"""A piece that took longer than this multiple was held up by something else: it must not end the search."""
BEYOND_SEEN = 0.3
"""Expectations go no further than this beyond the ratios that were seen of a kind: squares extrapolate badly."""
MIN_WORST_CASE_SECONDS = 3.0
"""A worst case is never below this: start-up and rounding do not shrink with the work."""

_NOWHERE = np.empty(0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Duration:
    """A forecast of seconds."""

    expected_seconds: float
    worst_case_seconds: float

    def share(self, share: float) -> Duration:
        """Of a part of the work."""
        return Duration(
            expected_seconds=share * self.expected_seconds, worst_case_seconds=share * self.worst_case_seconds
        )


@dataclass(kw_only=True, slots=True)
class _Regression:
    """Sums from which the posterior follows: the memory does not grow with what was seen."""

    num_axes: int
    count: int = 0
    lowest: float = math.inf
    highest: float = -math.inf
    products: Floats = field(init=False)
    targets: Floats = field(init=False)
    prior_precision: Floats = field(init=False)
    solved: tuple[float, Floats, Floats] | None = None
    """The prior mean that the posterior was found with, its mean and its covariance."""

    def __post_init__(self) -> None:
        num_squares = self.num_axes * (self.num_axes + 1) // 2
        sigmas = [PRIOR_LOG_SIGMA] + [LINEAR_LOG_SIGMA] * self.num_axes + [SQUARE_LOG_SIGMA] * num_squares
        self.prior_precision = np.array(sigmas) ** -2.0
        self.products = np.zeros((len(sigmas), len(sigmas)))
        self.targets = np.zeros(len(sigmas))

    def add(self, features: Floats, log_ratio: float) -> None:
        self.count += 1
        self.products += np.outer(features, features)
        self.targets += features * log_ratio
        self.lowest, self.highest = min(self.lowest, log_ratio), max(self.highest, log_ratio)
        self.solved = None

    def posterior(self, prior_mean: float) -> tuple[Floats, Floats]:
        """Mean and covariance of the weights, of which the first is a level around `prior_mean`."""
        if self.solved is None or self.solved[0] != prior_mean:
            precision = np.diag(self.prior_precision) + self.products / NOISE_LOG_SIGMA**2
            covariance = np.asarray(np.linalg.inv(precision), dtype=np.float64)
            mean = covariance @ ((self.targets - prior_mean * self.products[0]) / NOISE_LOG_SIGMA**2)
            self.solved = (prior_mean, mean, covariance)
        _, mean, covariance = self.solved
        return mean, covariance


class CostModel:
    """Seconds by kind of work and place in its search space, learnt from (nominal, actual) pairs."""

    def __init__(self) -> None:
        self._regressions: dict[Hashable, _Regression] = {}
        self._pooled_sum, self._pooled_count = 0.0, 0

    def predict(self, kind: Hashable, nominal_seconds: float, point: Floats = _NOWHERE) -> Duration:
        """For work of `nominal_seconds` of one kind at one place; kinds never seen borrow from the others.

        `point` has shape (axes of the kind's space,), between 0 and 1; always left out, or never, for a kind.
        """
        mean, variance = self._log_ratios(kind, point[None, :])
        sigma = math.sqrt(variance[0] + NOISE_LOG_SIGMA**2)
        worst = nominal_seconds * math.exp(min(mean[0] + WORST_CASE_SIGMAS * sigma, 700.0))
        return Duration(
            expected_seconds=nominal_seconds * math.exp(mean[0]),
            worst_case_seconds=max(MIN_WORST_CASE_SECONDS, worst),
        )

    def expected_ratios(self, kind: Hashable, points: Floats) -> Floats:
        """Expected seconds for each nominal second at points of shape (n, axes); shape (n,)."""
        return np.exp(self._log_ratios(kind, points)[0])

    def observe(
        self, kind: Hashable, *, nominal_seconds: float, actual_seconds: float, point: Floats = _NOWHERE
    ) -> None:
        """Learns from one finished piece of work; pieces too short to time are passed over."""
        if nominal_seconds <= 0 or actual_seconds <= 1e-3:
            return
        log_ratio = max(-MAX_LOG_RATIO, min(MAX_LOG_RATIO, math.log(actual_seconds / nominal_seconds)))
        regression = self._regressions.setdefault(kind, _Regression(num_axes=len(point)))
        regression.add(_features(point[None, :])[0], log_ratio)
        self._pooled_sum += log_ratio
        self._pooled_count += 1

    def _log_ratios(self, kind: Hashable, points: Floats) -> tuple[Floats, Floats]:
        """Posterior means and variances; the prior level of a kind is the mean over all kinds once there is one."""
        prior_mean = self._pooled_sum / (self._pooled_count + 1)
        regression = self._regressions.get(kind)
        if regression is None:
            return np.full(len(points), prior_mean), np.full(len(points), PRIOR_LOG_SIGMA**2)
        features = _features(points)
        mean, covariance = regression.posterior(prior_mean)
        means = np.clip(prior_mean + features @ mean, regression.lowest - BEYOND_SEEN, regression.highest + BEYOND_SEEN)
        return means, np.einsum("np,pq,nq->n", features, covariance, features)


def _features(points: Floats) -> Floats:
    """A level, the axes around their middle, and all products of two of them; shape (n, 1 + d + d (d + 1) / 2)."""
    centred = points - 0.5
    first, second = np.triu_indices(points.shape[1])
    return np.concatenate([np.ones((len(points), 1)), centred, centred[:, first] * centred[:, second]], axis=1)
