"""How much a trial promises for each second that it may cost: a Gittins index with two stages.

A trial may be looked at after its next stop, and given up there; so its price is not the whole training. The index is
the highest rate at which it would pay to rent the trial: the L with E[max(0, gain(y) - L rest)] = L first, where y is
what the next stop will show, `gain` the expected improvement then, and `first` and `rest` the seconds of the two
stages (Weitzman, Econometrica 47(3), 1979; for Bayesian optimisation Xie et al., NeurIPS 2024). Improvement over cost
of the next stop alone is clearly worse: it starves what improves late.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from mlcluster.search.curve_model import CurveModel, Floats, Forecasts, Likeness

_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
_NODE_SHARES = _NODE_WEIGHTS / _NODE_WEIGHTS.sum()


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """Where each of m trials could stand next or at last: fidelities and the seconds from now until there, (m,)."""

    fidelities: Floats
    seconds: Floats


def expected_improvement(means: Floats, deviations: Floats, threshold: float) -> Floats:
    """E[max(0, threshold - loss)] of normal losses. Jones, Schonlau & Welch 1998, eq. 15."""
    scaled = (threshold - means) / deviations
    density = np.exp(-0.5 * scaled**2) * 0.3989422804014327
    return np.asarray(deviations * (scaled * ndtr(scaled) + density))


def promise(model: CurveModel, likeness: Likeness, stages: tuple[Stage, ...], *, threshold: float) -> Floats:
    """Improvement below `threshold` a second, shape (m,): the best over all later stages at which a trial may stop.

    A stage whose seconds are infinite does not fit, and promises nothing.
    """
    first = model.forecast(likeness, stages[0].fidelities)
    best = _rate(expected_improvement(first.means, np.sqrt(first.variances), threshold), stages[0].seconds)
    for stage in stages[1:]:
        last = model.forecast(likeness, stage.fidelities)
        rates = _rent(model, first, last, (stages[0], stage), threshold)
        best = np.maximum(best, rates)
    return best


def _rent(
    model: CurveModel, first: Forecasts, last: Forecasts, stages: tuple[Stage, Stage], threshold: float
) -> Floats:
    """The Gittins rate of a trial that is looked at after the first stage and may end after the second."""
    shift = model.covariance_of(first, last) / np.sqrt(first.variances + model.noise_variance)
    deviations = np.sqrt(np.maximum(last.variances - shift**2, 1e-9))
    means = last.means[:, None] + shift[:, None] * _NODES[None, :]
    gains = expected_improvement(means, deviations[:, None], threshold)
    # The trial goes on where it showed most: the best set of nodes is a prefix in the order of their gains.
    order = np.argsort(-gains, axis=1)
    shares = _NODE_SHARES[order]
    gained = np.cumsum(np.take_along_axis(gains, order, axis=1) * shares, axis=1)
    with np.errstate(invalid="ignore"):  # where both stages take for ever
        rest_seconds = np.maximum(stages[1].seconds - stages[0].seconds, 0.0)
        seconds = stages[0].seconds[:, None] + rest_seconds[:, None] * np.cumsum(shares, axis=1)
    return np.asarray(_rate(gained, seconds).max(axis=1))


def _rate(gains: Floats, seconds: Floats) -> Floats:
    return np.where(np.isfinite(seconds), gains / np.where(np.isfinite(seconds), seconds, 1.0), 0.0)
