"""The model of losses over (configuration, fidelity): what it promises, and its formulas by hand."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcluster.search.curve_model import MEAN_FALL, ROUGH_LENGTH, CurveModel, decay_kernel, fallen_mean

Floats = npt.NDArray[np.float64]
JITTER = 1e-6
"""Beside the noise, on the diagonal."""
PRIOR_VARIANCES = (0.6, 0.4, 0.1, 0.05, 0.3, 0.004)
LENGTH = 0.3


def some_curves(seed: int, *, num_trials: int = 6, num_axes: int = 2) -> tuple[Floats, Floats, Floats]:
    """Points, fidelities and losses of trials that were each seen at 1, 5 and 20."""
    rng = np.random.default_rng(seed)
    points = np.repeat(rng.random((num_trials, num_axes)), 3, axis=0)
    fidelities = np.tile([1.0, 5.0, 20.0], num_trials)
    losses = np.sin(4 * points[:, 0]) + 2 / (1 + fidelities) + 0.1 * rng.normal(size=len(points))
    return points, fidelities, losses


def conditioned(points: Floats, fidelities: Floats, losses: Floats) -> CurveModel:
    """With the prior's hyperparameters. Losses are as the model takes them: above nothing, falling with training."""
    model = CurveModel(points.shape[1], num_varying_axes=1)
    model.condition(points, fidelities, losses)
    return model


def textbook_covariance(left: Floats, right: Floats, t_left: Floats, t_right: Floats) -> Floats:
    """The formula of the module, element by element; lengthscales and variances are the prior's."""
    limit, decay, rough_limit, rough_decay, common, _ = PRIOR_VARIANCES
    out = np.zeros((len(left), len(right)))
    for i in range(len(left)):
        for j in range(len(right)):
            r = math.sqrt(sum(((a - b) / LENGTH) ** 2 for a, b in zip(left[i], right[j], strict=True)))
            d = 3 / (t_left[i] + t_right[j] + 1)
            matern = (1 + math.sqrt(5) * r + 5 / 3 * r**2) * math.exp(-math.sqrt(5) * r)
            rough = math.exp(-r / ROUGH_LENGTH)
            out[i, j] = matern * (limit + decay * d) + rough * (rough_limit + rough_decay * d) + common * d
    return out


@pytest.mark.parametrize("seed", range(5))
def test_the_gradient_is_the_slope_of_the_posterior(seed: int) -> None:
    points, fidelities, losses = some_curves(seed)
    model = CurveModel(2, num_varying_axes=2)
    rng = np.random.default_rng([seed, 1])
    # The fit's own objective has no public name; away from the prior's middle, where its own slope is nothing.
    parameters = model._parameters + rng.normal(scale=0.4, size=len(model._parameters))
    _, gradient = model._negative_log_posterior(parameters, points, fidelities, losses)
    step = 1e-5
    for axis in range(len(parameters)):
        move = np.zeros_like(parameters)
        move[axis] = step
        above, _ = model._negative_log_posterior(parameters + move, points, fidelities, losses)
        below, _ = model._negative_log_posterior(parameters - move, points, fidelities, losses)
        assert gradient[axis] == pytest.approx((above - below) / (2 * step), rel=1e-3, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), num_trials=st.integers(1, 8), is_fitted=st.booleans())
def test_a_variance_is_never_below_zero_nor_above_what_was_believed_before(
    seed: int, num_trials: int, is_fitted: bool
) -> None:
    points, fidelities, losses = some_curves(seed, num_trials=num_trials)
    model = CurveModel(2, num_varying_axes=2)
    if is_fitted:
        model.fit(points, fidelities, losses)
    model.condition(points, fidelities, losses)
    # Among them the observed points themselves, and one seen twice.
    asked = np.concatenate([points, points[:1], np.random.default_rng(seed).random((20, 2))])
    at = np.resize([1.0, 5.0, 20.0, 50.0], len(asked))
    found = model.forecast(model.likeness(asked), at)
    far = model.forecast(model.likeness(np.full((len(at), 2), 1e6)), at)
    assert np.isfinite(found.means).all()
    assert (found.variances > 0).all()
    assert (found.variances <= far.variances + 1e-9).all()


@pytest.mark.parametrize("at", [1.0, 5.0, 20.0, 50.0])
def test_a_variance_shrinks_towards_an_observation(at: float) -> None:
    model = conditioned(np.array([[0.5]]), np.array([5.0]), np.array([1.0]))
    line = np.linspace(0.5, 1.0, 11)[:, None]
    variances = model.forecast(model.likeness(line), np.full(11, at)).variances
    assert (np.diff(variances) > 0).all()


def test_at_what_was_observed_the_forecast_is_the_observation_up_to_noise() -> None:
    points, fidelities, losses = some_curves(3)
    model = conditioned(points, fidelities, losses)
    found = model.forecast(model.likeness(points), fidelities)
    sigma = math.sqrt(model.noise_variance)
    assert np.abs(found.means - losses).max() < 3 * sigma
    assert (np.sqrt(found.variances) <= sigma).all()


def test_each_further_report_of_a_trial_tightens_the_forecast_of_its_end() -> None:
    point, seen_at = np.array([[0.3, 0.7]]), np.array([1.0, 3.0, 9.0, 27.0])
    spreads = []
    for count in range(1, 5):
        model = conditioned(np.repeat(point, count, axis=0), seen_at[:count], 1 + 2 / (1 + seen_at[:count]))
        spreads.append(float(model.forecast(model.likeness(point), np.array([50.0])).variances[0]))
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[-1] < spreads[0] / 3


@pytest.mark.parametrize("seed", range(3))
def test_fitting_makes_what_was_seen_likelier(seed: int) -> None:
    points, fidelities, losses = some_curves(seed)
    model = CurveModel(2, num_varying_axes=2)
    residuals = losses - fallen_mean(fidelities)
    before, _ = model._negative_log_posterior(model._parameters, points, fidelities, residuals)
    model.fit(points, fidelities, losses)
    after, _ = model._negative_log_posterior(model._parameters, points, fidelities, residuals)
    assert after < before


def test_the_posterior_is_the_textbook_one() -> None:
    """Rasmussen & Williams 2006, eqs. 2.25 and 2.26, with the kernel written out."""
    points = np.array([[0.1, 0.9], [0.1, 0.9], [0.4, 0.5]])
    fidelities, losses = np.array([1.0, 10.0, 3.0]), np.array([1.2, 0.4, 0.9])
    asked, at = np.array([[0.2, 0.8], [0.4, 0.5]]), np.array([50.0, 10.0])
    prior_mean, asked_mean = MEAN_FALL * 3 / (2 * fidelities + 1), MEAN_FALL * 3 / (2 * at + 1)
    noisy = textbook_covariance(points, points, fidelities, fidelities)
    noisy += (PRIOR_VARIANCES[-1] + JITTER) * np.eye(3)
    across = textbook_covariance(asked, points, at, fidelities)
    means = asked_mean + across @ np.linalg.solve(noisy, losses - prior_mean)
    variances = np.diag(textbook_covariance(asked, asked, at, at) - across @ np.linalg.solve(noisy, across.T))

    model = conditioned(points, fidelities, losses)
    found = model.forecast(model.likeness(asked), at)
    # The kernel rounds distances near zero off, so that its slope is finite there: some 1e-6 of difference.
    assert found.means == pytest.approx(means, abs=1e-5)
    assert found.variances == pytest.approx(variances, abs=1e-5)


def test_the_covariance_of_two_fidelities_of_a_trial_is_the_textbook_one() -> None:
    points, fidelities, losses = np.array([[0.1], [0.6]]), np.array([1.0, 4.0]), np.array([1.0, 0.7])
    asked, early, late = np.array([[0.2]]), np.array([4.0]), np.array([50.0])
    noisy = textbook_covariance(points, points, fidelities, fidelities) + (PRIOR_VARIANCES[-1] + JITTER) * np.eye(2)
    to_early = textbook_covariance(asked, points, early, fidelities)
    to_late = textbook_covariance(asked, points, late, fidelities)
    expected = textbook_covariance(asked, asked, early, late) - to_early @ np.linalg.solve(noisy, to_late.T)

    model = conditioned(points, fidelities, losses)
    likeness = model.likeness(asked)
    first, last = model.forecast(likeness, early), model.forecast(likeness, late)
    assert model.covariance_of(first, last) == pytest.approx(expected[0], abs=1e-5)
    assert model.covariance_of(last, last) == pytest.approx(last.variances)


def test_what_training_still_changes_is_all_at_the_first_unit_and_nearly_nothing_at_the_fiftieth() -> None:
    first, last = np.array([1.0]), np.array([50.0])
    assert decay_kernel(first, first) == pytest.approx([1.0])
    assert decay_kernel(last, last) == pytest.approx([3 / 101])
    assert fallen_mean(first) == pytest.approx([MEAN_FALL])


def test_one_observation_far_away_leaves_the_end_where_the_prior_had_it() -> None:
    model = conditioned(np.array([[0.0]]), np.array([50.0]), np.array([3.0]))
    found = model.forecast(model.likeness(np.array([[1e4]])), np.array([50.0]))
    # Only what training changes for all alike is shared over such a distance.
    assert abs(float(found.means[0]) - MEAN_FALL * 3 / 101) < 0.1


def test_the_same_report_twice_is_no_contradiction() -> None:
    model = conditioned(np.full((40, 1), 0.5), np.full(40, 9.0), np.full(40, 1.0))
    found = model.forecast(model.likeness(np.array([[0.5]])), np.array([9.0]))
    assert found.means == pytest.approx([1.0], abs=1e-3)
