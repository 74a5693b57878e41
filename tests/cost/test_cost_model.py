from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcluster.cost import CostModel
from mlcluster.cost.cost_model import (
    BEYOND_SEEN,
    LINEAR_LOG_SIGMA,
    MIN_WORST_CASE_SECONDS,
    NOISE_LOG_SIGMA,
    PRIOR_LOG_SIGMA,
    WORST_CASE_SIGMAS,
)

Floats = npt.NDArray[np.float64]


def observed(model: CostModel, *, kind: str, slowdown: float, count: int, rng: np.random.Generator) -> list[bool]:
    """Whether the worst case that was said before each of `count` trainings held."""
    held = []
    for _ in range(count):
        nominal = float(rng.uniform(1.0, 100.0))
        actual = nominal * slowdown * float(np.exp(rng.normal(0.0, NOISE_LOG_SIGMA)))
        held.append(actual <= model.predict(kind, nominal).worst_case_seconds)
        model.observe(kind, nominal_seconds=nominal, actual_seconds=actual)
    return held


@pytest.mark.parametrize("slowdown", [0.2, 1.0, 4.0])
def test_nearly_every_training_ends_within_its_worst_case(slowdown: float) -> None:
    rng = np.random.default_rng(7)
    held = [ok for _ in range(20) for ok in observed(CostModel(), kind="mlp", slowdown=slowdown, count=40, rng=rng)]
    assert np.mean(held) > 0.98


def test_the_worst_case_tightens_around_what_was_seen() -> None:
    model, rng = CostModel(), np.random.default_rng(1)
    ratios = []
    for _ in range(4):
        duration = model.predict("mlp", 50.0)
        ratios.append(duration.worst_case_seconds / duration.expected_seconds)
        observed(model, kind="mlp", slowdown=2.0, count=5, rng=rng)
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] < ratios[0] / 3
    assert model.predict("mlp", 50.0).expected_seconds == pytest.approx(100.0, rel=0.25)


def test_a_kind_that_was_never_seen_borrows_the_pace_of_the_others_but_stays_careful() -> None:
    model, rng = CostModel(), np.random.default_rng(1)
    observed(model, kind="mlp", slowdown=3.0, count=30, rng=rng)
    seen, unseen = model.predict("mlp", 50.0), model.predict("tree", 50.0)
    assert unseen.expected_seconds == pytest.approx(150.0, rel=0.2)
    assert unseen.worst_case_seconds > 2 * seen.worst_case_seconds


def test_pieces_too_short_to_time_teach_nothing() -> None:
    model = CostModel()
    before = model.predict("tree", 1.0)
    model.observe("tree", nominal_seconds=0.0, actual_seconds=1.0)
    model.observe("tree", nominal_seconds=1.0, actual_seconds=0.0)
    assert model.predict("tree", 1.0) == before


@given(
    pairs=st.lists(st.tuples(st.floats(1e-3, 1e5), st.floats(1e-3, 1e5)), max_size=20),
    nominal=st.floats(0.0, 1e5),
)
def test_the_worst_case_is_never_below_the_expectation_or_the_floor(
    pairs: list[tuple[float, float]], nominal: float
) -> None:
    model = CostModel()
    for seconds, actual in pairs:
        model.observe("any", nominal_seconds=seconds, actual_seconds=actual)
    duration = model.predict("any", nominal)
    assert np.isfinite(duration.worst_case_seconds)
    assert duration.worst_case_seconds >= max(duration.expected_seconds, MIN_WORST_CASE_SECONDS)


def planted_ratio(points: Floats) -> Floats:
    """A law of two axes with a bend and a product, as work whose count of operations forgets a term."""
    x, y = points[:, 0], points[:, 1]
    return np.asarray(np.exp(0.7 + 1.2 * x - 0.6 * y + 0.8 * (x - 0.5) * (y - 0.5)))


def learnt(points: Floats, ratios: Floats, *, kind: str = "mlp") -> CostModel:
    """Told of trainings at these points, each nominally ten seconds long."""
    model = CostModel()
    for point, ratio in zip(points, ratios, strict=True):
        model.observe(kind, nominal_seconds=10.0, actual_seconds=10.0 * float(ratio), point=point)
    return model


def drawn_law(seed: int, rng_points: np.random.Generator, *, num_axes: int, count: int) -> tuple[Floats, Floats]:
    """Points, and noisy ratios of a law whose weights are drawn from what the model takes for granted."""
    rng = np.random.default_rng(seed)
    level, slopes = rng.normal(0.0, PRIOR_LOG_SIGMA), rng.normal(0.0, 0.5 * LINEAR_LOG_SIGMA, num_axes)
    points = rng_points.random((count, num_axes))
    noise = rng_points.normal(0.0, NOISE_LOG_SIGMA, count)
    return points, np.exp(np.clip(level + (points - 0.5) @ slopes + noise, -3.0, 3.0))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6), num_seen=st.integers(0, 30), num_axes=st.integers(0, 4), nominal=st.floats(1e-3, 1e5)
)
def test_the_ratios_of_many_are_the_predictions_of_each(
    seed: int, num_seen: int, num_axes: int, nominal: float
) -> None:
    rng = np.random.default_rng(seed)
    model = learnt(rng.random((num_seen, num_axes)), np.exp(rng.normal(size=num_seen)))
    asked = rng.random((7, num_axes))
    for kind in ("mlp", "never seen"):
        ratios = model.expected_ratios(kind, asked)
        assert ratios.shape == (7,)
        for point, ratio in zip(asked, ratios, strict=True):
            assert model.predict(kind, nominal, point).expected_seconds == pytest.approx(nominal * float(ratio))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6), num_seen=st.integers(1, 12), num_axes=st.integers(1, 6), steepness=st.floats(0.0, 5.0)
)
def test_no_expectation_goes_far_beyond_what_was_seen(
    seed: int, num_seen: int, num_axes: int, steepness: float
) -> None:
    """Seen in one corner, asked in all: squares would go anywhere."""
    rng = np.random.default_rng(seed)
    seen = 0.2 * rng.random((num_seen, num_axes))
    ratios = np.exp(steepness * seen.sum(axis=1))
    found = learnt(seen, ratios).expected_ratios("mlp", rng.random((50, num_axes)))
    margin = np.exp(BEYOND_SEEN) * (1 + 1e-9)
    assert (found <= min(ratios.max(), 30.0) * margin).all()
    assert (found >= min(ratios.min(), 30.0) / margin).all()


def test_a_planted_law_is_learnt_within_a_fifth_from_forty_trainings() -> None:
    rng = np.random.default_rng(5)
    seen, asked = rng.random((40, 2)), rng.random((200, 2))
    noise = np.exp(rng.normal(0.0, 0.1, 40))
    found = learnt(seen, planted_ratio(seen) * noise).expected_ratios("mlp", asked)
    errors = np.abs(found / planted_ratio(asked) - 1)
    assert np.quantile(errors, 0.95) < 0.2
    # A mean over all configurations would be off by much more.
    assert np.quantile(np.abs(np.exp(np.log(planted_ratio(seen)).mean()) / planted_ratio(asked) - 1), 0.95) > 0.5


def test_nearly_every_training_ends_within_the_worst_case_of_its_configuration() -> None:
    rng, held = np.random.default_rng(3), []
    for seed in range(30):
        points, ratios = drawn_law(seed, rng, num_axes=3, count=40)
        model = CostModel()
        for point, ratio in zip(points, ratios, strict=True):
            held.append(50.0 * ratio <= model.predict("mlp", 50.0, point).worst_case_seconds)
            model.observe("mlp", nominal_seconds=50.0, actual_seconds=50.0 * float(ratio), point=point)
    assert np.mean(held) > 0.98


def test_a_configuration_among_those_seen_has_a_tighter_worst_case_than_one_far_from_them() -> None:
    rng = np.random.default_rng(2)
    seen = 0.3 * rng.random((30, 2))
    model = learnt(seen, planted_ratio(seen))
    near, far = (model.predict("mlp", 100.0, np.array(point)) for point in ([0.15, 0.15], [0.95, 0.95]))
    near_factor, far_factor = (one.worst_case_seconds / one.expected_seconds for one in (near, far))
    assert near_factor < far_factor
    assert near_factor < np.exp(WORST_CASE_SIGMAS * NOISE_LOG_SIGMA * 1.5)


@given(order=st.permutations(range(8)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_what_was_seen_does_not_matter(order: list[int]) -> None:
    rng = np.random.default_rng(0)
    points, asked = rng.random((8, 2)), rng.random((5, 2))
    ratios = planted_ratio(points)
    one = learnt(points, ratios).expected_ratios("mlp", asked)
    assert learnt(points[order], ratios[order]).expected_ratios("mlp", asked) == pytest.approx(one)


def test_one_training_in_the_middle_moves_the_expectation_by_its_weight_against_the_prior() -> None:
    """By hand: pooled prior mean m = log(4) / 2, precision 1/0.9^2 of the level against 1/0.35^2 of the training."""
    model = learnt(np.array([[0.5, 0.5]]), np.array([4.0]))
    prior_mean = np.log(4.0) / 2
    weight = NOISE_LOG_SIGMA**-2 / (NOISE_LOG_SIGMA**-2 + PRIOR_LOG_SIGMA**-2)
    found = model.predict("mlp", 10.0, np.array([0.5, 0.5]))
    assert found.expected_seconds == pytest.approx(10 * np.exp(prior_mean + weight * (np.log(4.0) - prior_mean)))
    variance = 1 / (NOISE_LOG_SIGMA**-2 + PRIOR_LOG_SIGMA**-2)
    sigma = np.sqrt(variance + NOISE_LOG_SIGMA**2)
    assert found.worst_case_seconds == pytest.approx(found.expected_seconds * np.exp(WORST_CASE_SIGMAS * sigma))


def test_a_training_that_was_held_up_counts_as_thirty_times_nominal_and_no_more() -> None:
    held_up, slow = (learnt(np.array([[0.5]]), np.array([ratio])) for ratio in (1e6, 30.0))
    asked = np.array([[0.2], [0.9]])
    assert held_up.expected_ratios("mlp", asked) == pytest.approx(slow.expected_ratios("mlp", asked))


def test_before_anything_was_seen_nominal_seconds_are_expected_everywhere() -> None:
    assert CostModel().expected_ratios("mlp", np.random.default_rng(0).random((4, 3))).tolist() == [1.0] * 4
