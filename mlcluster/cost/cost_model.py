"""How long a piece of training will take: the learner's own estimate, corrected by what was seen.

The learner counts work (operations, rows) and turns it into nominal seconds. How much slower this machine is, is
learnt online: the logarithm of actual over nominal seconds, per family and device, as a normal posterior with known
noise. A worst case is an upper quantile of that posterior, so that it tightens as trials come in.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass

PRIOR_LOG_SIGMA = 0.9
"""Before anything was seen: nominal seconds are right within a factor of about 2.5 (one sigma)."""
NOISE_LOG_SIGMA = 0.35
"""One training against its neighbour of the same family: within a factor of 1.4 (one sigma)."""
WORST_CASE_SIGMAS = 2.5
MAX_LOG_RATIO = math.log(30.0)
"""A piece that took longer than this multiple was held up by something else: it must not end the search."""
MIN_WORST_CASE_SECONDS = 3.0
"""A worst case is never below this: start-up and rounding do not shrink with the work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Duration:
    """A forecast of seconds."""

    expected_seconds: float
    worst_case_seconds: float


@dataclass(slots=True)
class _Posterior:
    count: int = 0
    sum_log_ratio: float = 0.0


class CostModel:
    """Seconds by (family, device), learnt from (nominal, actual) pairs."""

    def __init__(self) -> None:
        self._posteriors: dict[Hashable, _Posterior] = {}
        self._pooled = _Posterior()

    def predict(self, kind: Hashable, nominal_seconds: float) -> Duration:
        """For work of `nominal_seconds` of one kind; kinds never seen borrow from the others."""
        mean, variance = self._log_ratio(kind)
        sigma = math.sqrt(variance + NOISE_LOG_SIGMA**2)
        return Duration(
            expected_seconds=nominal_seconds * math.exp(mean),
            worst_case_seconds=max(
                MIN_WORST_CASE_SECONDS, nominal_seconds * math.exp(mean + WORST_CASE_SIGMAS * sigma)
            ),
        )

    def observe(self, kind: Hashable, *, nominal_seconds: float, actual_seconds: float) -> None:
        """Learns from one finished piece of work; pieces too short to time are passed over."""
        if nominal_seconds <= 0 or actual_seconds <= 1e-3:
            return
        log_ratio = max(-MAX_LOG_RATIO, min(MAX_LOG_RATIO, math.log(actual_seconds / nominal_seconds)))
        for posterior in (self._posteriors.setdefault(kind, _Posterior()), self._pooled):
            posterior.count += 1
            posterior.sum_log_ratio += log_ratio

    def _log_ratio(self, kind: Hashable) -> tuple[float, float]:
        """Posterior mean and variance; the prior of a kind is the mean over all kinds once there is one."""
        prior_mean, prior_variance = 0.0, PRIOR_LOG_SIGMA**2
        if self._pooled.count:
            prior_mean = self._pooled.sum_log_ratio / (self._pooled.count + 1)
        seen = self._posteriors.get(kind)
        if seen is None:
            return prior_mean, prior_variance
        precision = 1 / prior_variance + seen.count / NOISE_LOG_SIGMA**2
        mean = (prior_mean / prior_variance + seen.sum_log_ratio / NOISE_LOG_SIGMA**2) / precision
        return mean, 1 / precision
