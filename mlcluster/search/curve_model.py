"""A Gaussian process over (configuration, fidelity): what a trial's loss will be later, and how sure that is.

A freeze-thaw model (Swersky, Snoek & Adams, arXiv:1406.3896) in which all parts are correlated over configurations, so
that one trial's curve says something about its neighbours'. With r the distance of two configurations (one lengthscale
an axis) and d(t, t') = 3 / (t + t' + 1) the decay of what training still changes, the covariance of two losses is

    k(r) (limit + decay d) + rough(r) (limit' + decay' d) + common d + noise.

k is Matern 5/2; rough is exponential and short, for what two near configurations do not share. A mean that falls with d
says before anything was seen that training helps. Variances and lengthscales are a maximum a posteriori.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

Floats = npt.NDArray[np.float64]

ROUGH_LENGTH = 0.3
"""Of the exponential kernel, as a share of the smooth one's lengthscales."""
MEAN_FALL = 0.7
"""How far the mean falls from one unit of fidelity to the end, in units of the warped loss."""
MAX_FIT_ROWS = 220
"""Hyperparameters are fitted on at most so many observations: the fit is cubic in them."""
_FIT_ITERATIONS = 15
_JITTER = 1e-6
_PRIOR_VARIANCES = (0.6, 0.4, 0.1, 0.05, 0.3, 0.004)
"""Limit, decay, rough limit, rough decay, common decay, noise."""
_LENGTH_SIGMA, _VARIANCE_SIGMA = 0.7, 1.0
"""Of the log-normal priors."""
_MAX_PRIOR_SIGMAS = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecasts:
    """Posterior of losses: means and variances, shape (m,). `whitened`, shape (n, m), gives covariances among them."""

    means: Floats
    variances: Floats
    fidelities: Floats
    whitened: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Likeness:
    """Kernels between m points and the n observations, both of shape (m, n): found once, used at each fidelity."""

    smooth: Floats
    rough: Floats


class CurveModel:
    """See the module. Points have shape (n, num_axes), fidelities (n,) run from 0 to about 50, losses are warped."""

    def __init__(self, num_axes: int, *, num_varying_axes: int) -> None:
        """`num_varying_axes` are those in which two candidates can differ at once: distances grow with their root."""
        self._num_axes = num_axes
        lengths = np.full(num_axes, math.log(0.3 * math.sqrt(num_varying_axes)))
        self._prior_mean = np.concatenate([lengths, np.log(_PRIOR_VARIANCES)])
        sigmas = (np.full(num_axes, _LENGTH_SIGMA), np.full(len(_PRIOR_VARIANCES), _VARIANCE_SIGMA))
        self._prior_sigma = np.concatenate(sigmas)
        self._parameters = self._prior_mean.copy()

    @property
    def noise_variance(self) -> float:
        return float(np.exp(self._parameters[-1]))

    def fit(self, points: Floats, fidelities: Floats, losses: Floats) -> None:
        """Moves lengthscales and variances to their maximum a posteriori, from where they stand."""
        sigmas = zip(self._prior_mean, self._prior_sigma, strict=True)
        found = minimize(
            self._negative_log_posterior,
            self._parameters,
            args=(points, fidelities, losses - fallen_mean(fidelities)),
            jac=True,
            method="L-BFGS-B",
            bounds=[(mean - _MAX_PRIOR_SIGMAS * sigma, mean + _MAX_PRIOR_SIGMAS * sigma) for mean, sigma in sigmas],
            options={"maxiter": _FIT_ITERATIONS},
        )
        self._parameters = found.x

    def condition(self, points: Floats, fidelities: Floats, losses: Floats) -> None:
        """Takes these observations, and no others, as seen."""
        self._lengths, self._variances = self._split(self._parameters)
        self._scaled = points / self._lengths
        self._fidelities = fidelities
        likeness = _likeness(_squared_distances(self._scaled, self._scaled))
        covariance = self._covariance(likeness, fidelities)
        covariance[np.diag_indices(len(losses))] += self.noise_variance + _JITTER
        self._factor = cholesky(covariance, lower=True, check_finite=False)
        self._weights = cho_solve((self._factor, True), losses - fallen_mean(fidelities), check_finite=False)

    def likeness(self, points: Floats) -> Likeness:
        """Of points to the observations; give it to `forecast`."""
        return _likeness(_squared_distances(points / self._lengths, self._scaled))

    def forecast(self, likeness: Likeness, fidelities: Floats) -> Forecasts:
        """Losses, without the noise of a report, at one fidelity for each point."""
        covariance = self._covariance(likeness, fidelities)
        whitened = solve_triangular(self._factor, covariance.T, lower=True, check_finite=False)
        variances = self._prior_covariance(fidelities, fidelities) - np.einsum("nm,nm->m", whitened, whitened)
        return Forecasts(
            means=covariance @ self._weights + fallen_mean(fidelities),
            variances=np.maximum(variances, 1e-9),
            fidelities=fidelities,
            whitened=whitened,
        )

    def covariance_of(self, earlier: Forecasts, later: Forecasts) -> Floats:
        """Posterior covariance of the same points' losses at two fidelities, shape (m,)."""
        prior = self._prior_covariance(earlier.fidelities, later.fidelities)
        return np.asarray(prior - np.einsum("nm,nm->m", earlier.whitened, later.whitened))

    def _split(self, parameters: Floats) -> tuple[Floats, Floats]:
        return np.exp(parameters[: self._num_axes]), np.exp(parameters[self._num_axes :])

    def _covariance(self, likeness: Likeness, fidelities: Floats) -> Floats:
        limit, decay, rough_limit, rough_decay, common, _ = self._variances
        left = decay_kernel(fidelities[:, None], self._fidelities[None, :])
        smooth, rough = likeness.smooth * (limit + decay * left), likeness.rough * (rough_limit + rough_decay * left)
        return np.asarray(smooth + rough + common * left)

    def _prior_covariance(self, earlier: Floats, later: Floats) -> Floats:
        limit, decay, rough_limit, rough_decay, common, _ = self._variances
        return np.asarray(limit + rough_limit + (decay + rough_decay + common) * decay_kernel(earlier, later))

    def _negative_log_posterior(
        self, parameters: Floats, points: Floats, fidelities: Floats, losses: Floats
    ) -> tuple[float, Floats]:
        """And its gradient (Rasmussen & Williams 2006, eqs. 2.30 and 5.9)."""
        lengths, (limit, decay, rough_limit, rough_decay, common, noise) = self._split(parameters)
        scaled = points / lengths
        squared = _squared_distances(scaled, scaled)
        like, left = _likeness(squared), decay_kernel(fidelities[:, None], fidelities[None, :])
        smooth_scale, rough_scale = limit + decay * left, rough_limit + rough_decay * left
        covariance = like.smooth * smooth_scale + like.rough * rough_scale + common * left
        covariance[np.diag_indices(len(losses))] += noise + _JITTER
        try:
            factor = cholesky(covariance, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(parameters)
        weights = cho_solve((factor, True), losses, check_finite=False)
        deviation = (parameters - self._prior_mean) / self._prior_sigma
        value = 0.5 * losses @ weights + np.log(np.diag(factor)).sum() + 0.5 * deviation @ deviation
        slope = 0.5 * (_inverse(factor) - np.outer(weights, weights))
        distance = np.sqrt(squared + 1e-12)
        root5 = math.sqrt(5) * distance
        by_distance = slope * (
            smooth_scale * (5 / 3) * (1 + root5) * np.exp(-root5) + rough_scale * like.rough / (ROUGH_LENGTH * distance)
        )
        by_length = 2 * ((scaled**2).T @ by_distance.sum(axis=1) - (scaled * (by_distance @ scaled)).sum(axis=0))
        slope_left = slope * left
        by_variance = np.array(
            [
                limit * (slope * like.smooth).sum(),
                decay * (slope_left * like.smooth).sum(),
                rough_limit * (slope * like.rough).sum(),
                rough_decay * (slope_left * like.rough).sum(),
                common * slope_left.sum(),
                noise * np.trace(slope),
            ]
        )
        return float(value), np.concatenate([by_length, by_variance]) + deviation / self._prior_sigma


def fallen_mean(fidelities: Floats) -> Floats:
    """What training is expected to leave to gain, before anything was seen."""
    return np.asarray(MEAN_FALL * decay_kernel(fidelities, fidelities))


def decay_kernel(earlier: Floats, later: Floats) -> Floats:
    """3 / (t + t' + 1): one at the first unit, nearly nothing at the fiftieth. Swersky et al. 2014, eq. 6."""
    return np.asarray(3.0 / (earlier + later + 1.0))


def _squared_distances(left: Floats, right: Floats) -> Floats:
    products = left @ right.T
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :]
    return np.asarray(np.maximum(squares - 2 * products, 0.0))


def _likeness(squared: Floats) -> Likeness:
    distance = np.sqrt(squared + 1e-12)
    root5 = math.sqrt(5) * distance
    return Likeness(
        smooth=(1 + root5 + (5 / 3) * squared) * np.exp(-root5),
        rough=np.exp(-distance / ROUGH_LENGTH),
    )


def _inverse(factor: Floats) -> Floats:
    lower, _ = dpotri(factor, lower=1)
    lower = np.tril(lower)
    return np.asarray(lower + np.tril(lower, -1).T)
