"""Equal to the last digit: who is a twin of whom, and how near twins are expected."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcluster.search.twins import Twins


@given(losses=st.lists(st.sampled_from([0.1, 0.2, 0.3]), max_size=20))
def test_the_first_of_equals_stands_for_all_of_them(losses: list[float]) -> None:
    twins = Twins()
    for index, loss in enumerate(losses):
        first = losses.index(loss)
        expected = None if first == index else f"t{first}"
        assert twins.twin_of(f"t{index}", "toy", units=1, loss=loss) == expected


@given(
    seen=st.lists(st.tuples(st.floats(0.0, 2.0), st.booleans()), max_size=30),
    asked=st.lists(st.floats(0.0, 3.0), min_size=1, max_size=10),
)
def test_newness_is_a_probability_that_is_never_none_at_all(seen: list[tuple[float, bool]], asked: list[float]) -> None:
    twins = Twins()
    for distance, was_twin in seen:
        twins.learn(distance, was_twin=was_twin)
    newness = twins.newness(np.array(asked))
    assert newness.shape == (len(asked),)
    assert (newness > 0).all()
    assert (newness <= 1).all()


def test_a_trial_is_no_twin_of_itself() -> None:
    twins = Twins()
    assert twins.twin_of("a", "toy", units=1, loss=0.5) is None
    assert twins.twin_of("a", "toy", units=1, loss=0.5) is None
    assert twins.twin_of("a", "toy", units=3, loss=0.5) is None


def test_twins_have_family_units_and_every_digit_of_the_loss_in_common() -> None:
    twins = Twins()
    twins.twin_of("a", "toy", units=3, loss=0.5)
    assert twins.twin_of("b", "other", units=3, loss=0.5) is None
    assert twins.twin_of("c", "toy", units=1, loss=0.5) is None
    assert twins.twin_of("d", "toy", units=3, loss=math.nextafter(0.5, 1.0)) is None
    assert twins.twin_of("e", "toy", units=3, loss=0.5) == "a"


@pytest.mark.parametrize("loss", [math.inf, -math.inf, math.nan])
def test_trainings_that_diverged_are_no_twins(loss: float) -> None:
    """They have nothing in common but that: each tells of its own place."""
    twins = Twins()
    twins.twin_of("a", "toy", units=3, loss=loss)
    assert twins.twin_of("b", "toy", units=3, loss=loss) is None


def test_before_any_twin_was_seen_all_is_new() -> None:
    twins = Twins()
    twins.learn(0.0, was_twin=False)
    assert twins.newness(np.array([0.0, 0.5])).tolist() == [1.0, 1.0]


def test_what_lies_as_near_as_twins_did_is_less_new_than_what_lies_further() -> None:
    twins = Twins()
    for _ in range(5):
        twins.learn(0.01, was_twin=True)
        twins.learn(0.5, was_twin=False)
    near, far = twins.newness(np.array([0.01, 0.5]))
    # Five twins against half an observation's doubt.
    assert near == pytest.approx(1 - 5 / 5.5)
    assert far > 0.99


def test_the_more_twins_were_seen_at_a_distance_the_surer_the_next_is_one() -> None:
    twins, found = Twins(), []
    for _ in range(4):
        twins.learn(0.1, was_twin=True)
        found.append(float(twins.newness(np.array([0.1]))[0]))
    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(1 - 1 / 1.5)


def test_of_no_candidates_there_is_no_newness() -> None:
    twins = Twins()
    twins.learn(0.1, was_twin=True)
    assert twins.newness(np.empty(0)).shape == (0,)
