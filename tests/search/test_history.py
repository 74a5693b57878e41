"""What a portfolio learns from past studies."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlcluster.search import PORTFOLIO_SIZE, Candidate, PastStudy, PastTrial, learn_portfolio
from mlcluster.spec import FloatDomain

SPACE = {name: FloatDomain(low=0.0, high=1.0, default=0.5) for name in ("x", "y")}
SPACES = {"toy": SPACE}


def study(
    name: str, *, best: tuple[float, float], scale: float = 1.0, num_trials: int = 40, seed: int = 0
) -> PastStudy:
    """Even draws whose loss rises with the distance from `best`; every fourth was trained to its end."""
    rng = np.random.default_rng(len(name))
    trials = []
    for index in range(num_trials):
        x, y = rng.random(2).tolist()
        units = (1, 3, 9) if index % 4 == 0 else (1,)
        floor = math.hypot(x - best[0], y - best[1])
        losses = tuple(scale * (floor + 1 / (1 + unit)) for unit in units)
        candidate = Candidate(family="toy", configuration={"x": x, "y": y}, origin="random")
        trials.append(PastTrial(candidate=candidate, units=units, losses=losses))
    return PastStudy(name=name, trials=tuple(trials), max_units={"toy": 9})


def distance(candidate: Candidate, place: tuple[float, float]) -> float:
    return math.hypot(float(candidate.configuration["x"]) - place[0], float(candidate.configuration["y"]) - place[1])


def test_each_past_study_has_a_good_member() -> None:
    left, right = (0.2, 0.2), (0.8, 0.7)
    portfolio = learn_portfolio([study("one", best=left), study("other", best=right, scale=1e3)], SPACES, seed=0)
    assert len(portfolio) == PORTFOLIO_SIZE
    assert min(distance(one, left) for one in portfolio) < 0.2
    assert min(distance(one, right) for one in portfolio) < 0.2
    assert {one.origin for one in portfolio} == {"portfolio"}


def test_what_is_good_everywhere_comes_first() -> None:
    studies = [study(name, best=(0.3, 0.6)) for name in ("a", "bb", "ccc")]
    assert distance(learn_portfolio(studies, SPACES, seed=0, size=1)[0], (0.3, 0.6)) < 0.2


def test_the_same_history_and_seed_give_the_same_portfolio_and_its_size_is_a_prefix() -> None:
    studies = [study("one", best=(0.2, 0.2)), study("other", best=(0.8, 0.7))]
    whole = learn_portfolio(studies, SPACES, seed=3)
    assert learn_portfolio(studies, SPACES, seed=3) == whole
    assert learn_portfolio(studies, SPACES, seed=3, size=3) == whole[:3]
    assert len({str(one.configuration) for one in whole}) == len(whole)


@pytest.mark.parametrize(
    "studies",
    [
        [],
        [study("small", best=(0.5, 0.5), num_trials=3)],
        [PastStudy(name="stranger", trials=study("s", best=(0.5, 0.5)).trials, max_units={"toy": 9})],
    ],
    ids=["none", "too small", "of another space"],
)
def test_where_nothing_can_be_learnt_there_is_no_portfolio(studies: list[PastStudy]) -> None:
    spaces = {"toy": {**SPACE, "z": SPACE["x"]}} if studies and studies[0].name == "stranger" else SPACES
    assert learn_portfolio(studies, spaces, seed=0) == ()


def test_diverged_trainings_of_the_past_are_no_members() -> None:
    good = study("one", best=(0.2, 0.2))
    bad = tuple(
        PastTrial(candidate=trial.candidate, units=trial.units, losses=tuple(math.inf for _ in trial.losses))
        if float(trial.candidate.configuration["x"]) > 0.5
        else trial
        for trial in good.trials
    )
    portfolio = learn_portfolio([PastStudy(name="one", trials=bad, max_units={"toy": 9})], SPACES, seed=0, size=4)
    assert all(float(one.configuration["x"]) <= 0.5 for one in portfolio)
