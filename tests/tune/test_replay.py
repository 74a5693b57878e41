"""A recorded study played to a fresh policy: the same decisions, or the first that is another."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcluster.search import HyperbandSettings
from mlcluster.train import Segment, TrialReport
from mlcluster.tune import StudyPlan, VirtualClock, read_journal, replay_study, simulate_study
from mlcluster.tune.journal import Event
from tests.tune.studies import RUNGS, open_study, paced, policy_of, report_of, synthetic_plan

BOTH = pytest.mark.parametrize("search", ["halving", "promise"])


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


class DriverDies(BaseException):
    """Nothing may catch it."""


def recorded(plan: StudyPlan, folder: Path, search: str, *, seed: int = 0, death_share: float = 0.0) -> list[Event]:
    """The journal of a study in which trainings are of odd lengths, some lose their workers, and drivers die."""
    rng, clock = np.random.default_rng(seed), VirtualClock(1_000.0)

    def training(segment: Segment) -> TrialReport | None:
        if rng.random() < death_share:
            raise DriverDies
        if rng.random() < 0.05:
            return None
        report = report_of(segment, seconds=float(rng.uniform(0.2, 0.8)) * (segment.stop_units - segment.start_units))
        return replace(report, loss=float("nan")) if rng.random() < 0.05 else report

    for _ in range(50):
        study, ledger = open_study(plan, folder, cap_usd=0.05, clock=clock, search=search)
        try:
            simulate_study(study, training, clock)
            break
        except DriverDies:
            clock.now += 1.0
        finally:
            ledger.close()
    return list(read_journal(folder / "study" / "journal.jsonl"))


def plain(folder: Path, search: str, *, seed: int = 4) -> tuple[StudyPlan, list[Event]]:
    plan = synthetic_plan(families=("toy", "other"), num_slots=2, max_trials=15, seed=seed)
    clock = VirtualClock(1_000.0)
    study, ledger = open_study(plan, folder, cap_usd=10.0, clock=clock, search=search)
    simulate_study(study, paced, clock)
    ledger.close()
    return plan, list(read_journal(folder / "study" / "journal.jsonl"))


@BOTH
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000),
    num_slots=st.integers(1, 3),
    num_gpus=st.integers(0, 1),
    max_together=st.sampled_from([1, 4]),
    seconds=st.sampled_from([60.0, 10_000.0]),
    death_share=st.sampled_from([0.0, 0.04]),
)
def test_every_decision_is_the_same_through_lost_workers_lines_pieces_and_drivers_that_died(
    search: str, tmp_path_factory: pytest.TempPathFactory, death_share: float, seed: int, **budget: float
) -> None:
    plan = synthetic_plan(families=("toy", "other"), max_trials=15, seed=seed, **budget)  # type: ignore[arg-type]
    events = recorded(plan, tmp_path_factory.mktemp("study"), search, seed=seed, death_share=death_share)
    replay = replay_study(events, plan, policy_of(plan, search))
    assert replay.divergence is None
    assert replay.num_equal >= sum(event.kind == "decision" for event in events)
    assert replay.is_equal


@BOTH
def test_another_seed_is_caught(search: str, tmp_path: Path) -> None:
    plan, events = plain(tmp_path, search)
    other = replace(plan, seed=5)
    divergence = replay_study(events, other, policy_of(other, search)).divergence
    assert divergence is not None
    event = events[divergence.line - 1]
    assert (event.kind, event.data["trial_id"]) == (divergence.kind, divergence.trial_id)
    assert divergence.kind == "start"
    assert divergence.recorded["reason"] == event.data["reason"]
    assert divergence.now is not None
    assert divergence.now["candidate"] != divergence.recorded["candidate"]


@BOTH
def test_another_setting_is_caught(search: str, tmp_path: Path) -> None:
    plan, events = plain(tmp_path, search)
    other = replace(plan, settings=HyperbandSettings(rungs_seconds=tuple(2.0 * units for units in RUNGS[:3])))
    replay = replay_study(events, other, policy_of(other, search))
    assert replay.divergence is not None
    assert replay.divergence.number == replay.num_equal + 1


def test_another_policy_is_caught(tmp_path: Path) -> None:
    plan, events = plain(tmp_path, "halving")
    assert not replay_study(events, plan, policy_of(plan, "promise")).is_equal


@BOTH
def test_a_report_that_was_tampered_with_is_caught_where_it_first_changes_a_decision(
    search: str, tmp_path: Path
) -> None:
    plan, events = plain(tmp_path, search)
    at = next(index for index, event in enumerate(events) if event.kind == "report")
    events[at] = replace(events[at], data={**events[at].data, "loss": float("nan")})
    divergence = replay_study(events, plan, policy_of(plan, search)).divergence
    assert divergence is not None
    assert divergence.kind == "decision"
    assert (divergence.now or {})["reason"] == "its loss is nan"
    assert divergence.line > at


def test_a_journal_of_old_is_played_as_far_as_it_can_be_and_what_was_guessed_is_said(tmp_path: Path) -> None:
    plan, events = plain(tmp_path, "halving")
    asked = {"new_trials", "room_seconds"}
    old = [
        replace(event, data={key: value for key, value in event.data.items() if key not in asked})
        for event in events
        if event.kind != "decision"
    ]
    replay = replay_study(old, plan, policy_of(plan, "halving"))
    assert replay.is_equal
    assert replay.num_guessed == replay.num_equal == sum(event.kind == "start" for event in events)


def test_a_study_that_has_not_ended_is_played_to_where_it_came(tmp_path: Path) -> None:
    plan, events = plain(tmp_path, "promise")
    whole = replay_study(events, plan, policy_of(plan, "promise"))
    part = replay_study(events[: len(events) // 2], plan, policy_of(plan, "promise"))
    assert part.is_equal
    assert 0 < part.num_equal < whole.num_equal
    assert replay_study([], plan, policy_of(plan, "promise")).num_equal == 0
