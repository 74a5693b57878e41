"""What a trial promises a second: the formulas against brute force, and what any such index must keep."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from mlcluster.search.curve_model import CurveModel
from mlcluster.search.promise import Stage, expected_improvement, promise

Floats = npt.NDArray[np.float64]
NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
NODE_SHARES = NODE_WEIGHTS / NODE_WEIGHTS.sum()
POINTS = np.array([[0.1], [0.35], [0.6], [0.9]])
LATER = (5.0, 20.0, 50.0)
"""Fidelities of the stages that lie before each trial."""


@pytest.fixture(scope="module")
def model() -> CurveModel:
    """Four trials, each seen at the first unit."""
    model = CurveModel(1, num_varying_axes=1)
    model.condition(POINTS, np.ones(4), np.array([1.3, 0.9, 0.2, 0.7]))
    return model


def stages(seconds: tuple[float, ...], *, num_points: int = 4) -> tuple[Stage, ...]:
    """For each point the same seconds."""
    return tuple(
        Stage(fidelities=np.full(num_points, fidelity), seconds=np.full(num_points, one))
        for fidelity, one in zip(LATER, seconds, strict=False)
    )


def rates(model: CurveModel, seconds: tuple[float, ...], *, threshold: float = 0.0) -> Floats:
    return promise(model, model.likeness(POINTS), stages(seconds), threshold=threshold)


@given(mean=st.floats(-3.0, 3.0), deviation=st.floats(0.05, 3.0), threshold=st.floats(-3.0, 3.0))
@settings(max_examples=60, deadline=None)
def test_expected_improvement_is_the_integral_of_the_improvement(
    mean: float, deviation: float, threshold: float
) -> None:
    scaled = np.linspace(-10, 10, 20_001)
    density = np.exp(-0.5 * scaled**2) / math.sqrt(2 * math.pi)
    gains = np.maximum(0.0, threshold - mean - deviation * scaled)
    integral = float(np.trapezoid(gains * density, scaled))
    found = expected_improvement(np.array([mean]), np.array([deviation]), threshold)
    assert found == pytest.approx([integral], abs=1e-5)


def brute_force_rate(model: CurveModel, point: int, *, threshold: float, first: float, whole: float) -> float:
    """The root L of E[max(0, gain - L rest)] = L first, by bisection, over the seven nodes of the quadrature."""
    likeness = model.likeness(POINTS[point : point + 1])
    early, late = (model.forecast(likeness, np.array([fidelity])) for fidelity in LATER[:2])
    shift = float(model.covariance_of(early, late)[0]) / math.sqrt(float(early.variances[0]) + model.noise_variance)
    deviation = math.sqrt(max(float(late.variances[0]) - shift**2, 1e-9))
    means = float(late.means[0]) + shift * NODES
    gains = expected_improvement(means, np.full(len(means), deviation), threshold)

    def surplus(rate: float) -> float:
        return float(NODE_SHARES @ np.maximum(0.0, gains - rate * (whole - first))) - rate * first

    return float(brentq(surplus, 0.0, gains.max() / first + 1.0, xtol=1e-14))


@settings(max_examples=40, deadline=None)
@given(
    first=st.floats(0.01, 100.0), rest=st.floats(0.0, 1000.0), threshold=st.floats(-1.5, 1.5), point=st.integers(0, 3)
)
def test_the_rate_of_two_stages_is_the_root_of_the_equation_that_defines_it(
    model: CurveModel, first: float, rest: float, threshold: float, point: int
) -> None:
    """Or what the first stage alone is worth, if that is more."""
    found = rates(model, (first, first + rest), threshold=threshold)[point]
    alone = rates(model, (first,), threshold=threshold)[point]
    root = brute_force_rate(model, point, threshold=threshold, first=first, whole=first + rest)
    assert found == pytest.approx(max(alone, root), rel=1e-6, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    first=st.floats(0.01, 100.0),
    rests=st.tuples(st.floats(0.0, 500.0), st.floats(0.0, 500.0)),
    discount=st.floats(0.05, 1.0),
    threshold=st.floats(-1.5, 1.5),
    whose=st.sampled_from(["first", "later", "all"]),
)
def test_the_same_trial_for_fewer_seconds_never_promises_less(
    model: CurveModel, first: float, rests: tuple[float, float], discount: float, threshold: float, whose: str
) -> None:
    cheap_first = first * discount if whose != "later" else first
    share = discount if whose != "first" else 1.0
    dear = (first, first + rests[0], first + rests[0] + rests[1])
    cheap = (cheap_first, cheap_first + share * rests[0], cheap_first + share * (rests[0] + rests[1]))
    assert (rates(model, cheap, threshold=threshold) >= rates(model, dear, threshold=threshold) * (1 - 1e-9)).all()


@given(threshold=st.floats(-1.0, 1.0), more=st.floats(0.0, 1.0))
@settings(max_examples=30, deadline=None)
def test_a_lower_threshold_is_never_easier_to_beat(model: CurveModel, threshold: float, more: float) -> None:
    easy, hard = (rates(model, (1.0, 4.0, 10.0), threshold=one) for one in (threshold, threshold - more))
    assert (hard <= easy + 1e-12).all()


@given(factor=st.floats(0.01, 100.0))
@settings(max_examples=30, deadline=None)
def test_the_promise_is_a_rate_so_that_twice_the_seconds_are_half_of_it(model: CurveModel, factor: float) -> None:
    once = rates(model, (1.0, 4.0, 10.0))
    times = rates(model, (factor, 4 * factor, 10 * factor))
    assert times * factor == pytest.approx(once)


def test_what_takes_for_ever_promises_nothing_and_does_no_harm(model: CurveModel) -> None:
    assert (rates(model, (math.inf, math.inf, math.inf)) == 0).all()
    alone = rates(model, (2.0,))
    assert (alone > 0).all()
    assert rates(model, (2.0, math.inf, math.inf)) == pytest.approx(alone)


def test_more_stages_at_which_to_stop_never_promise_less(model: CurveModel) -> None:
    one, two, three = (rates(model, (1.0, 4.0, 10.0)[:count]) for count in (1, 2, 3))
    assert (two >= one).all()
    assert (three >= two).all()


def test_a_look_that_tells_all_for_little_is_worth_more_than_the_improvement_over_the_whole_cost(
    model: CurveModel,
) -> None:
    """Most trials would be given up after the look, so that most of the cost is not paid."""
    threshold, whole = -0.5, 100.0
    likeness = model.likeness(POINTS)
    last = model.forecast(likeness, np.full(4, 50.0))
    plain = expected_improvement(last.means, np.sqrt(last.variances), threshold) / whole
    # At the fidelity of the end, a look shows all but the noise.
    looked = promise(
        model,
        likeness,
        tuple(
            Stage(fidelities=np.full(4, fidelity), seconds=np.full(4, one))
            for fidelity, one in ((49.0, 1.0), (50.0, whole))
        ),
        threshold=threshold,
    )
    assert (looked > 2 * plain).all()


def test_the_better_of_two_trials_of_the_same_cost_promises_more(model: CurveModel) -> None:
    found = rates(model, (1.0, 4.0, 10.0), threshold=0.0)
    assert int(np.argmax(found)) == 2


def test_expected_improvement_at_the_threshold_is_the_deviation_over_the_root_of_two_pi() -> None:
    found = expected_improvement(np.array([0.7, 0.7]), np.array([1.0, 2.0]), 0.7)
    assert found == pytest.approx([1 / math.sqrt(2 * math.pi), 2 / math.sqrt(2 * math.pi)])


def test_without_doubt_the_expected_improvement_is_the_improvement() -> None:
    found = expected_improvement(np.array([0.2, 0.9]), np.array([1e-9, 1e-9]), 0.5)
    assert found == pytest.approx([0.3, 0.0], abs=1e-8)


def test_of_no_trials_nothing_is_promised(model: CurveModel) -> None:
    none = tuple(Stage(fidelities=np.empty(0), seconds=np.empty(0)) for _ in range(3))
    assert promise(model, model.likeness(np.empty((0, 1))), none, threshold=0.0).shape == (0,)
