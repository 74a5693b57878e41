from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcluster.cost import CostModel
from mlcluster.cost.cost_model import MIN_WORST_CASE_SECONDS, NOISE_LOG_SIGMA


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
