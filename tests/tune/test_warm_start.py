"""What a study leaves for later ones, and what these try first because of it."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlcluster.search import PORTFOLIO_SIZE, PastStudy
from mlcluster.spec import DEFAULT_FAMILIES, FloatDomain, SearchSpace, default_configuration, holds
from mlcluster.train import FAMILIES
from mlcluster.tune import (
    FirstTrials,
    StudyPlan,
    StudyResult,
    VirtualClock,
    first_trials,
    past_study_from_json,
    past_study_to_json,
    promise_policy,
    shipped_portfolio,
    simulate_study,
)
from tests.tune.studies import open_study, paced, synthetic_plan

SPACES = {name: FAMILIES[name].space for name in DEFAULT_FAMILIES}
TASKS = ("binary", "multiclass", "regression")


def simulated(folder: Path, *, seed: int = 0) -> tuple[StudyPlan, StudyResult]:
    plan = synthetic_plan(families=("linear", "boosting"), num_slots=2, max_trials=30, seed=seed)
    clock = VirtualClock(1_000.0)
    study, ledger = open_study(plan, folder, cap_usd=1.0, clock=clock)
    result = simulate_study(study, paced, clock)
    ledger.close()
    return plan, result


def past(folder: Path, *, seed: int = 0) -> PastStudy:
    plan, result = simulated(folder, seed=seed)
    found = past_study_from_json(as_file(past_study_to_json(plan, result, name=f"study {seed}")), plan.spaces)
    assert found is not None
    return found


def as_file(value: dict[str, Any]) -> Any:
    return json.loads(json.dumps(value))


def test_a_study_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    plan, result = simulated(tmp_path)
    found = past_study_from_json(as_file(past_study_to_json(plan, result, name="s")), plan.spaces)
    assert found is not None
    with_scores = [trial for trial in result.trials.values() if trial.curve]
    assert len(found.trials) == len(with_scores)
    for trial, summary in zip(found.trials, with_scores, strict=True):
        assert trial.candidate.configuration == summary.configuration
        assert trial.units[-1] == summary.curve[-1].units
        assert len(trial.losses) <= 8


def test_only_families_whose_space_is_the_same_are_taken(tmp_path: Path) -> None:
    plan, result = simulated(tmp_path)
    file = as_file(past_study_to_json(plan, result, name="s"))
    wider: SearchSpace = {**plan.spaces["linear"], "other": FloatDomain(low=0.0, high=1.0, default=0.5)}
    found = past_study_from_json(file, {**plan.spaces, "linear": wider})
    assert found is not None
    assert {trial.candidate.family for trial in found.trials} == {"boosting"}
    assert past_study_from_json(file, {"linear": wider}) is None


@pytest.mark.parametrize(
    "value", [None, [], "text", 3, {}, {"format": "other"}, {"format": "mlcluster.past_study/1", "families": 3}]
)
def test_what_is_no_past_study_is_none(value: Any) -> None:
    assert past_study_from_json(value, SPACES) is None


def test_a_file_that_was_tampered_with_teaches_nothing_that_cannot_be_trained(tmp_path: Path) -> None:
    plan, result = simulated(tmp_path)
    rng = random.Random(0)
    for _ in range(200):
        file = as_file(past_study_to_json(plan, result, name="s"))
        trial = rng.choice(file["trials"])
        name = rng.choice(list(trial["configuration"]))
        trial["configuration"][name] = rng.choice(["x", None, -1e9, 1e9, [], True, {}])
        part = rng.choice(["units", "losses"])
        odd = rng.choice([[], [1], "abc", None, [1.0, "y"], [float("inf")], [float("nan")], [-3], [0]])
        trial[part] = odd if odd is None or len(odd) != 1 else odd * len(trial[part])
        file["families"][trial["family"]]["max_units"] = rng.choice([27, 27, 0, -1, float("inf")])
        found = past_study_from_json(file, plan.spaces)
        for one in found.trials if found else ():
            assert holds(plan.spaces[one.candidate.family], one.candidate.configuration)
        if found is not None:
            first_trials(plan.spaces, task="binary", mode="history", past=[found], seed=0)


def test_history_and_portfolio_come_in_turn_and_modes_leave_one_out(tmp_path: Path) -> None:
    studies = [past(tmp_path / str(seed), seed=seed) for seed in range(2)]
    spaces = {name: SPACES[name] for name in ("linear", "boosting")}
    plan, _ = simulated(tmp_path / "again")
    assert plan.spaces.keys() == spaces.keys()

    def origins(mode: Any) -> list[str]:
        found = first_trials(plan.spaces, task="binary", mode=mode, past=studies, seed=0)
        assert len(found.candidates) <= PORTFOLIO_SIZE
        return [one.origin for one in found.candidates]

    assert set(origins("history")) == {"history"}
    assert origins("none") == []
    assert "history" in origins("auto")


def test_the_same_history_gives_the_same_first_trials_and_they_survive_a_file(tmp_path: Path) -> None:
    studies = [past(tmp_path)]
    plan, _ = simulated(tmp_path / "again")
    first, second = (first_trials(plan.spaces, task="binary", mode="auto", past=studies, seed=3) for _ in range(2))
    assert first == second
    assert FirstTrials.from_json(as_file(first.to_json())) == first
    assert first.sources[0] == "study 0"


def test_a_study_begins_with_them_and_with_the_defaults_of_other_families(tmp_path: Path) -> None:
    plan, _ = simulated(tmp_path)
    first = first_trials(plan.spaces, task="binary", mode="history", past=[past(tmp_path / "past")], seed=0)
    only_boosting = tuple(one for one in first.candidates if one.family == "boosting")[:2]
    assert only_boosting
    policy = promise_policy(replace(plan, first=only_boosting))
    begun = []
    for _ in range(len(only_boosting) + 1):
        suggestion = policy.suggest()
        assert suggestion is not None
        policy.accept(suggestion)
        begun.append(suggestion.candidate)
    assert begun[:-1] == list(only_boosting)
    assert begun[-1].family == "linear"
    assert begun[-1].configuration == default_configuration(plan.spaces["linear"])


@pytest.mark.parametrize("task", TASKS)
def test_the_portfolio_that_ships_lies_in_the_spaces_of_the_built_in_families(task: str) -> None:
    portfolio = shipped_portfolio(task, SPACES)
    assert len(portfolio) == PORTFOLIO_SIZE
    assert len({one.family for one in portfolio}) >= 2
    trees_only = shipped_portfolio(task, {"tree": SPACES["tree"], "forest": SPACES["forest"]})
    assert {one.family for one in trees_only} <= {"tree", "forest"}


def test_bounds_of_ones_own_leave_out_what_lies_beyond_them() -> None:
    narrow = {"boosting": {**SPACES["boosting"], "learning_rate": FloatDomain(low=0.2999, high=0.3, default=0.3)}}
    assert shipped_portfolio("binary", narrow) == ()
