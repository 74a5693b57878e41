from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcluster.search import REDUCTION_FACTOR, rung_levels, units_within

costs = st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=6)


@given(full_costs=costs, num_rungs=st.integers(1, 6), lowest=st.floats(0.0, 10.0))
def test_rungs_rise_by_the_reduction_factor_up_to_the_most_expensive_training(
    full_costs: list[float], num_rungs: int, lowest: float
) -> None:
    levels = rung_levels(full_costs, num_rungs=num_rungs, lowest_seconds=lowest)
    assert levels[-1] == max(full_costs)
    assert 1 <= len(levels) <= num_rungs
    assert all(low >= lowest for low in levels[:-1])
    for low, high in itertools.pairwise(levels):
        assert high / low == pytest.approx(REDUCTION_FACTOR)


def test_a_worked_example() -> None:
    assert rung_levels([27.0, 5.0]) == pytest.approx((1.0, 3.0, 9.0, 27.0))
    assert rung_levels([2.7]) == pytest.approx((0.3, 0.9, 2.7))
    assert rung_levels([0.1]) == (0.1,)


@given(
    level=st.floats(0.0, 1e4), start_up=st.floats(0.0, 10.0), unit=st.floats(1e-3, 100.0), max_units=st.integers(1, 200)
)
def test_units_within_a_rung_are_the_most_that_it_pays_for(
    level: float, start_up: float, unit: float, max_units: int
) -> None:
    def cost(units: int) -> float:
        return start_up + unit * units

    units = units_within(level, cost, max_units=max_units)
    assert 1 <= units <= max_units
    assert units == 1 or cost(units) <= level
    assert units == max_units or cost(units + 1) > level


@given(levels=st.lists(st.floats(0.0, 1e3), min_size=2, max_size=5), unit=st.floats(1e-2, 10.0))
def test_a_higher_rung_never_asks_for_fewer_units(levels: list[float], unit: float) -> None:
    units = [units_within(level, lambda count: unit * count, max_units=54) for level in sorted(levels)]
    assert units == sorted(units)
