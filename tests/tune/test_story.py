"""The story is the study's own: the same ranks, dollars and reasons, through crashes, and from journals of old."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcluster.search import Action, TrialState
from mlcluster.train import Segment, TrialReport
from mlcluster.tune import (
    Ending,
    SegmentEnd,
    VirtualClock,
    read_journal,
    simulate_study,
    tell_study,
    trial_to_json,
)
from mlcluster.tune.journal import Event
from tests.tune.studies import MAX_UNITS, open_study, paced, report_of, simulated, synthetic_plan

CAP_USD = 10.0
abandoning = pytest.mark.filterwarnings("ignore::ResourceWarning")
"""For tests in which a driver is left behind: it closes none of its files."""


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def as_of_old(events: list[Event]) -> list[Event]:
    """The journal as it was written before it held decisions, terms and worst cases."""
    later = {"metric", "num_slots", "usd_per_second", "slot_usd_per_second", "worst_case_seconds"}
    return [
        replace(event, data={key: value for key, value in event.data.items() if key not in later})
        for event in events
        if event.kind != "decision"
    ]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), loss_share=st.sampled_from([0.0, 0.1, 0.6]), num_slots=st.integers(1, 3))
def test_the_journal_alone_tells_what_the_study_found(
    seed: int, loss_share: float, num_slots: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)

    def training(segment: Segment) -> TrialReport | None:
        return None if rng.random() < loss_share else paced(segment)

    result, events = simulated(tmp_path_factory.mktemp("study"), training, seed=seed, num_slots=num_slots)
    story = tell_study(events)
    assert [trial.trial_id for trial in story.ranked()] == [trial.trial_id for trial in result.ranked()]
    assert story.improvements == result.improvements
    assert (story.ending, story.metric, story.study_id) == (result.ending, result.metric, result.study_id)
    for told in story.trials:
        known = result.trials[told.trial_id]
        assert (told.state, told.rung, told.value) == (known.state, known.rung, known.value)
        assert told.usd == pytest.approx(known.usd, rel=1e-9)
        assert told.seconds == pytest.approx(known.seconds)
    assert sum(trial.usd for trial in story.trials) <= result.usd + 1e-9


def test_each_segment_says_why_what_it_took_and_what_was_decided(tmp_path: Path) -> None:
    _, events = simulated(tmp_path)
    story = tell_study(events)
    best = story.ranked()[0]
    assert best.rank == 1
    assert best.reason == best.segments[0].reason == f"new {best.family} ({best.origin}), to rung 0"
    assert [one.rung for one in best.segments] == [0, 1, 2, 3]
    assert all("go on" in one.reason for one in best.segments[1:])
    for segment in best.segments:
        assert segment.worst_case_seconds is not None
        assert 0 < segment.expected_seconds <= segment.worst_case_seconds
        assert segment.seconds == segment.held_seconds == 0.5 * (segment.stop_units - segment.start_units)
        assert segment.usd == pytest.approx(segment.held_seconds * 1e-4 / 2)
        assert (segment.worker, segment.end) == ("cpu", SegmentEnd.REPORTED)
    last = best.segments[-1].decision
    assert last is not None
    assert (last.action, last.reason) == (Action.COMPLETE, f"at the top rung with {MAX_UNITS} units")
    assert best.best_segment is best.segments[-1]


def test_what_was_trained_as_one_is_told_of_each_with_its_part_of_the_dollars(tmp_path: Path) -> None:
    result, events = simulated(tmp_path, max_together=4)
    story = tell_study(events)
    segments = {(trial.trial_id, one.started_at): one for trial in story.trials for one in trial.segments}
    joined = {key: one for key, one in segments.items() if one.together}
    assert joined
    for (trial_id, started_at), one in joined.items():
        assert trial_id not in one.together
        assert all(trial_id in segments[other, started_at].together for other in one.together)
    # By the price of a slot, for journals without decisions: what a worker was held for counts once.
    untold = tell_study([event for event in events if event.kind != "decision"])
    assert sum(trial.usd for trial in untold.trials) == pytest.approx(sum(t.usd for t in result.trials.values()))


def test_lost_cut_and_unusable_segments_are_told_as_such(tmp_path: Path) -> None:
    def training(segment: Segment) -> TrialReport | None:
        match segment.trial_id:
            case "t0000":
                return None
            case "t0001":
                return replace(paced(segment), loss=math.nan)
            case "t0002" if segment.start_units == 0 and segment.stop_units > 1:
                return paced(replace(segment, stop_units=segment.stop_units - 1))
        return paced(segment)

    result, events = simulated(tmp_path, training, max_trials=4)
    story = tell_study(events, result)
    lost, unusable = story.trials[0], story.trials[1]
    assert [one.end for one in lost.segments] == [SegmentEnd.LOST] * 2
    assert [one.decision.action for one in lost.segments if one.decision] == [Action.PAUSE, Action.STOP]
    assert lost.segments[-1].note == "its worker was lost"
    assert lost.rank is None
    assert lost.usd > 0
    assert (unusable.state, unusable.value, unusable.rank) == (TrialState.FAILED, None, None)
    assert unusable.segments[0].decision is not None
    assert unusable.segments[0].decision.reason == "its loss is nan"
    told = json.dumps(story.to_json(), allow_nan=False)
    assert json.loads(told)["trials"][1]["segments"][0]["loss"] is None
    assert trial_to_json(lost)["usd"] == lost.usd


@abandoning
def test_a_trial_that_raises_has_its_error_and_a_cut_one_its_units(tmp_path: Path) -> None:
    clock = VirtualClock(1_000.0)
    study, ledger = open_study(synthetic_plan(), tmp_path, cap_usd=CAP_USD, clock=clock)
    first = study.next_segment()
    assert first is not None
    clock.now += 2.0
    study.fail(first.trial_id, "ValueError: <b>no</b>")
    second = study.next_segment()
    assert second is not None
    clock.now += 1.0
    study.report(report_of(second, seconds=1.0))
    third = study.next_segment()
    assert third is not None
    story = tell_study(read_journal(tmp_path / "study" / "journal.jsonl"))
    ledger.close()
    assert story.trials[0].state is TrialState.FAILED
    assert story.trials[0].segments[0].note == "ValueError: <b>no</b>"
    assert story.trials[0].usd == pytest.approx(2.0 * 1e-4)
    assert story.trials[-1].state is TrialState.RUNNING
    assert story.trials[-1].segments[-1].usd is None
    assert (story.ending, story.seconds) == (None, pytest.approx(3.0))


@abandoning
def test_a_driver_that_died_is_told_and_its_segment_costs_the_trial_nothing(tmp_path: Path) -> None:
    plan = synthetic_plan(max_trials=3)
    clock = VirtualClock(1_000.0)
    study, ledger = open_study(plan, tmp_path, cap_usd=CAP_USD, clock=clock)
    assert study.next_segment() is not None
    clock.now += 1.0
    ledger.close()
    study, ledger = open_study(plan, tmp_path, cap_usd=CAP_USD, clock=clock)
    result = simulate_study(study, paced, clock)
    ledger.close()
    story = tell_study(read_journal(tmp_path / "study" / "journal.jsonl"), result)
    assert story.num_drivers == 2
    interrupted = story.trials[0].segments[0]
    assert (interrupted.end, interrupted.usd) == (SegmentEnd.INTERRUPTED, None)
    assert story.trials[0].usd == pytest.approx(result.trials["t0000"].usd)


def test_a_journal_of_old_is_read_with_the_same_ranks_and_dollars(tmp_path: Path) -> None:
    result, events = simulated(tmp_path)
    old = tell_study(as_of_old(events))
    new = tell_study(events)
    assert [(one.trial_id, one.rank) for one in old.trials] == [(one.trial_id, one.rank) for one in new.trials]
    assert [one.usd for one in old.trials] == pytest.approx([one.usd for one in new.trials])
    assert old.metric is None
    assert all(one.decision is None and one.worst_case_seconds is None for one in old.trials[0].segments)
    settled = tell_study(as_of_old(events), result)
    assert [one.state for one in settled.trials] == [one.state for one in new.trials]
    assert settled.metric == "log_loss"


@abandoning
def test_a_study_goes_on_from_a_journal_of_old(tmp_path: Path) -> None:
    result, events = simulated(tmp_path / "new")
    folder = tmp_path / "old" / "study"
    folder.mkdir(parents=True)
    lines = [json.dumps({"kind": one.kind, "at": one.at, **one.data}) for one in as_of_old(events)]
    (folder / "journal.jsonl").write_text("\n".join(lines) + "\n")
    plan = synthetic_plan(families=("toy", "other"), num_slots=2, max_trials=30)
    study, ledger = open_study(plan, tmp_path / "old", cap_usd=CAP_USD, clock=VirtualClock(9_000.0))
    assert {one.trial_id: one.state for one in study.trials} == {
        trial_id: trial.state for trial_id, trial in result.trials.items()
    }
    ledger.close()


def test_an_empty_journal_and_events_of_later_versions_are_no_error() -> None:
    empty = tell_study([])
    assert (empty.trials, empty.usd, empty.ending, empty.ranked()) == ((), 0.0, None, [])
    later = Event(kind="weather", at=0.0, data={"sun": True})  # type: ignore[arg-type]
    begin = Event(kind="begin", at=0.0, data={"study_id": "s", "seed": 7})
    ended = Event(kind="end", at=1.0, data={"ending": "budget"})
    told = tell_study([begin, later, ended])
    assert (told.study_id, told.seed, told.ending) == ("s", 7, Ending.BUDGET)
