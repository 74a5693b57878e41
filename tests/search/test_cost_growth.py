"""How seconds grow with units is learnt from trials that went on, each family by itself."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcluster.search import Candidate, CostTerms, Fidelity
from mlcluster.search.cost_growth import CostGrowth
from mlcluster.search.joint_space import JointSpace
from mlcluster.search.ladders import Ladders
from mlcluster.search.trial_table import TrialTable
from mlcluster.spec import FloatDomain

RUNGS = (1.0, 3.0, 9.0, 27.0)
SPACE = JointSpace({"net": {"x": FloatDomain(low=0.0, high=1.0, default=0.5)}})
START_SECONDS = 4.0
"""Of a training that then takes a second a unit."""


def seconds_until(units: int) -> float:
    return START_SECONDS + units if units else 0.0


def test_before_anything_was_seen_each_unit_costs_the_same() -> None:
    assert CostGrowth(2).powers.tolist() == [1.0, 1.0]


@given(power=st.floats(0.4, 1.8), scales=st.lists(st.floats(0.01, 100), min_size=20, max_size=30))
def test_a_power_is_found_whatever_the_pace_of_a_trial(power: float, scales: list[float]) -> None:
    growth = CostGrowth(2)
    for scale in scales:
        growth.observe(1, units=(1, 9), seconds=(scale, scale * 9**power))
    assert growth.powers[1] == pytest.approx(power, abs=0.03)
    assert growth.powers[0] == 1.0


@pytest.mark.parametrize(
    ("units", "seconds"), [((0, 3), (0.0, 1.0)), ((3, 3), (1.0, 1.0)), ((1, 3), (0.0, 1.0)), ((1, 3), (2.0, 2.0))]
)
def test_what_says_nothing_is_passed_over(units: tuple[int, int], seconds: tuple[float, float]) -> None:
    growth = CostGrowth(1)
    growth.observe(0, units=units, seconds=seconds)
    assert growth.powers.tolist() == [1.0]


def test_a_slow_start_makes_what_lies_before_trials_cheaper_than_their_first_unit_suggests() -> None:
    fidelity = Fidelity(max_units=27, nominal_seconds=lambda _, units: float(units))
    ladders = Ladders(RUNGS, {"net": fidelity}, CostTerms(floor_share=0.0))
    table = TrialTable(num_axes=SPACE.num_axes, num_rungs=len(RUNGS))
    for index in range(12):
        candidate = Candidate(family="net", configuration={"x": index / 11}, origin="test")
        row = table.add(SPACE.point(candidate), ladders.of(candidate), whole_units=27)
        stops = (0, 1, 3, 9, 27) if index % 2 else (0, 1)
        for units in itertools.pairwise(stops):
            seconds = (seconds_until(units[0]), seconds_until(units[1]))
            ladders.observe(candidate, SPACE, units=units, seconds=seconds)
            table.units[row], table.seconds[row] = units[1], seconds[1]
    truth = seconds_until(27) - seconds_until(1)
    _, _, last = ladders.stages_of_trials(table, np.array([0, 2]), room_seconds=np.inf)
    assert last.seconds == pytest.approx(truth, rel=0.4)
    assert (last.seconds < 0.5 * 26 * seconds_until(1)).all(), "were each unit as slow as the first"
    first, _, last = ladders.stages_of_new("net", SPACE, np.array([[0.4]]), table, room_seconds=np.inf)
    assert first.seconds == pytest.approx(seconds_until(1), rel=0.2)
    assert last.seconds == pytest.approx(seconds_until(27), rel=0.4)
