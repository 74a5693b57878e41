"""Losses of any metric on one scale."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcluster.search.warped_losses import WORST, LossScale

losses = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


@given(seen=losses)
def test_warping_keeps_the_order_and_no_loss_is_above_the_worst(seen: list[float]) -> None:
    warped = LossScale.of(np.array(seen)).warp(np.array(sorted(seen)))
    assert (np.diff(warped) >= 0).all()
    assert np.isfinite(warped).all()
    assert warped.max() <= WORST


@given(seen=st.lists(st.floats(-100.0, 100.0), min_size=5, max_size=30), value=st.floats(-4.0, 2.9))
def test_what_is_unwarped_warps_back(seen: list[float], value: float) -> None:
    # With losses apart from each other: a spread below rounding has no digits to come back with.
    scale = LossScale.of(np.array(seen) + np.arange(len(seen)))
    assert scale.warp(np.array([scale.unwarp(value)]))[0] == pytest.approx(value, abs=1e-6)


@given(
    seen=st.lists(st.integers(-1000, 1000), min_size=2, max_size=30, unique=True),
    factor=st.sampled_from([0.25, 1.0, 8.0]),
    shift=st.integers(-100, 100),
)
def test_the_metrics_unit_and_zero_do_not_matter(seen: list[int], factor: float, shift: int) -> None:
    one = np.array(seen, dtype=float)
    other = factor * one + shift
    assert LossScale.of(other).warp(other) == pytest.approx(LossScale.of(one).warp(one), abs=1e-9)


def test_the_median_is_nothing_and_the_lowest_tenth_is_one_spread_below() -> None:
    seen = np.arange(0.0, 101.0)
    scale = LossScale.of(seen)
    assert (scale.median, scale.spread) == (50.0, 40.0)
    assert scale.warp(np.array([50.0, 10.0, 90.0])) == pytest.approx([0.0, -math.asinh(1), math.asinh(1)])
    assert scale.unwarp(-math.asinh(1)) == pytest.approx(10.0)


@pytest.mark.parametrize("loss", [math.inf, math.nan, -math.inf, 1e300])
def test_a_diverged_training_stands_with_the_worst(loss: float) -> None:
    scale = LossScale.of(np.array([0.1, 0.2, 0.3, loss]))
    assert math.isfinite(scale.median)
    assert scale.warp(np.array([loss]))[0] == WORST


@pytest.mark.parametrize("seen", [[], [math.inf], [math.nan, math.inf]])
def test_where_nothing_is_finite_the_scale_is_the_metrics_own(seen: list[float]) -> None:
    assert LossScale.of(np.array(seen)) == LossScale(median=0.0, spread=1.0)


def test_equal_losses_have_a_scale() -> None:
    scale = LossScale.of(np.full(5, 0.7))
    assert scale.warp(np.array([0.7]))[0] == 0.0
    assert scale.spread > 0
