"""Published examples for the formulas; simulated test sets for the promise that a bound holds in 19 of 20."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from mlcluster.verify.intervals import (
    Estimate,
    area_under_roc,
    difference_of_proportions,
    from_means,
    proportion,
)


@given(trials=st.integers(1, 500), share=st.floats(0, 1), confidence=st.sampled_from([0.9, 0.95, 0.99]))
def test_the_interval_of_a_share_is_clopper_and_pearsons(trials: int, share: float, confidence: float) -> None:
    successes = round(share * trials)
    found = proportion(successes, trials, confidence)
    oracle = stats.binomtest(successes, trials).proportion_ci(1 - 2 * (1 - confidence), method="exact")
    assert (found.lower, found.upper) == pytest.approx((oracle.low, oracle.high))
    assert found.lower <= found.value <= found.upper


def test_all_of_thirty_rows_right_is_no_proof_of_ninety_five_percent() -> None:
    assert proportion(30, 30, 0.95).lower == pytest.approx(0.05 ** (1 / 30))


def test_the_difference_of_shares_equals_newcombes_published_example() -> None:
    # Newcombe 1998, table II, column (a): 56/70 against 48/80, two-sided 95 %.
    found = difference_of_proportions((56, 70), (48, 80), 0.975)
    assert (found.value, found.lower, found.upper) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


@given(st.tuples(st.integers(0, 40), st.integers(0, 40)))
def test_the_difference_turned_round_has_its_bounds_turned_round(successes: tuple[int, int]) -> None:
    one, two = (successes[0], 40), (successes[1], 40)
    there, back = difference_of_proportions(one, two, 0.95), difference_of_proportions(two, one, 0.95)
    assert (there.lower, there.upper) == pytest.approx((-back.upper, -back.lower))
    assert there.lower <= there.value <= there.upper


def two_columns(positive: np.ndarray) -> np.ndarray:
    return np.stack([1 - positive, positive], axis=1)


def test_delongs_error_equals_its_definition() -> None:
    # The positives spread twice as far, which makes DeLong's the wider of the two bounds.
    rng = np.random.default_rng(0)
    y = (rng.random(600) < 0.4).astype(np.int64)
    positive = special.expit(rng.normal(size=600) * (1 + y) + y)
    wins = (positive[y == 1][:, None] > positive[y == 0]).astype(float)
    error = np.sqrt(wins.mean(axis=1).var(ddof=1) / (y == 1).sum() + wins.mean(axis=0).var(ddof=1) / (y == 0).sum())
    area = wins.mean()
    expected = special.expit(special.logit(area) - special.ndtri(0.95) * error / (area * (1 - area)))
    found = area_under_roc(y, two_columns(positive), 0.95)
    assert found.value == pytest.approx(area)
    assert found.lower == pytest.approx(expected)


def test_a_perfect_ranking_of_few_rows_is_not_believed() -> None:
    y = np.repeat([0, 1], 20)
    found = area_under_roc(y, two_columns(np.linspace(0, 1, 40)), 0.95)
    assert found.value == found.upper == 1.0
    assert found.lower < 0.96
    assert area_under_roc(1 - y, two_columns(np.linspace(0, 1, 40)), 0.95).upper > 0.04


def test_a_ranking_that_is_a_little_worse_never_has_a_higher_bound() -> None:
    y = np.repeat([0, 1], 40)
    positive = np.linspace(0, 1, 80)
    bounds = []
    for swapped in range(8):
        mixed = positive.copy()
        mixed[39 - swapped], mixed[40] = positive[40], positive[39 - swapped]
        bounds.append(area_under_roc(y, two_columns(mixed), 0.95).lower)
    assert bounds == sorted(bounds, reverse=True)


def test_many_classes_are_averaged() -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 4, 400)
    scores = rng.dirichlet(np.ones(4), 400) + np.eye(4)[y] * 0.2
    found = area_under_roc(y, scores, 0.95)
    assert found.lower < found.value < found.upper
    assert found.upper - found.lower < 0.1


def coverage(simulate: Callable[[np.random.Generator], Estimate], truth: float, repeats: int) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    found = [simulate(rng) for _ in range(repeats)]
    return float(np.mean([one.lower <= truth for one in found])), float(np.mean([one.upper >= truth for one in found]))


@pytest.mark.parametrize(("area", "ratio"), [(0.7, 1), (0.9, 1), (0.9, 2), (0.97, 2), (0.99, 1)])
def test_bounds_of_the_area_hold_in_at_least_92_percent_of_test_sets(area: float, ratio: float) -> None:
    distance = special.ndtri(area) * np.sqrt(1 + ratio**2)
    y = np.repeat([0, 1], [90, 60])

    def simulate(rng: np.random.Generator) -> Estimate:
        return area_under_roc(y, two_columns(rng.normal(y * distance, np.where(y == 1, ratio, 1))), 0.95)

    low, high = coverage(simulate, area, 400)
    assert low >= 0.92
    assert high >= 0.92


@pytest.mark.parametrize("num_rows", [30, 200])
def test_bounds_of_a_mean_hold_in_about_95_percent_of_test_sets(num_rows: int) -> None:
    def simulate(rng: np.random.Generator) -> Estimate:
        return from_means(rng.normal(size=(num_rows, 1)), lambda means: means[:, 0], 0.95, rng)

    low, high = coverage(simulate, 0.0, 300)
    assert low == pytest.approx(0.95, abs=0.035)
    assert high == pytest.approx(0.95, abs=0.035)


def test_a_mean_has_the_same_bounds_under_the_same_seed() -> None:
    columns = np.random.default_rng(0).normal(size=(100, 1))
    first, second = (from_means(columns, lambda m: m[:, 0], 0.95, np.random.default_rng(3)) for _ in range(2))
    assert first == second
