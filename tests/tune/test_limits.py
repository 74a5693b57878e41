"""Trials whose models need more than the limits allow are given up at once, count, and never win."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlcluster.cli.story_text import study_text, trial_text
from mlcluster.errors import GateFailed
from mlcluster.search import Action, TrialState
from mlcluster.train import Measured, Segment, TrialReport
from mlcluster.tune import (
    Limits,
    SegmentEnd,
    StudyResult,
    StudyStory,
    VirtualClock,
    read_journal,
    render_report,
    report_on,
    select_winner,
    simulate_study,
    tell_study,
)
from tests.tune.studies import MAX_UNITS, journal_of, open_study, paced, synthetic_plan

LIMIT_MB = 0.5
FAST_MS = 1.0


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def sized_by(megabytes: Callable[[Segment], float | None]) -> Callable[[Segment], TrialReport]:
    def train(segment: Segment) -> TrialReport:
        needs = megabytes(segment)
        return replace(paced(segment), measured=None if needs is None else Measured(p99_ms=FAST_MS, model_mb=needs))

    return train


def by_quality(segment: Segment) -> float | None:
    """The best are the largest; measured after the first segment only."""
    return None if segment.start_units else 1.0 - float(segment.configuration["quality"])


def by_units(segment: Segment) -> float:
    """Over the limit at the last rung."""
    return segment.stop_units / MAX_UNITS


def run(
    folder: Path, training: Callable[[Segment], TrialReport], *, search: str = "halving", limits: Limits
) -> tuple[StudyResult, StudyStory]:
    clock = VirtualClock(1_000.0)
    plan = replace(synthetic_plan(families=("toy", "other"), num_slots=2, max_trials=40, seed=3), limits=limits)
    study, ledger = open_study(plan, folder, cap_usd=10.0, clock=clock, search=search)
    result = simulate_study(study, training, clock)
    ledger.close()
    return result, tell_study(read_journal(folder / "study" / "journal.jsonl"))


@pytest.mark.parametrize("search", ["halving", "promise"])
def test_a_trial_over_a_limit_is_given_up_at_once_and_never_wins(search: str, tmp_path: Path) -> None:
    result, story = run(tmp_path, sized_by(by_quality), search=search, limits=Limits(model_mb=LIMIT_MB))
    pruned = {name: trial for name, trial in result.trials.items() if trial.configuration["quality"] < 1 - LIMIT_MB}
    assert 0 < len(pruned) < len(result.trials) == 40
    for trial in result.trials.values():
        assert (trial.over_limit is not None) == (trial.trial_id in pruned)
    for trial in pruned.values():
        assert (trial.state, trial.value) == ("failed", None)
        assert trial.usd > 0
        needs = 1 - float(trial.configuration["quality"])
        assert trial.over_limit == f"needs {needs:.3g} MB, over tune.limits.model_mb = {LIMIT_MB:g}"
    assert len([one for one in journal_of(tmp_path, "start") if one["trial_id"] in pruned]) == len(pruned)
    winner = result.ranked()[0]
    assert winner.configuration["quality"] >= 1 - LIMIT_MB
    assert winner.measured == Measured(p99_ms=FAST_MS, model_mb=1 - float(winner.configuration["quality"]))
    assert not {one.trial_id for one in (*result.improvements, *story.improvements)} & set(pruned)


def test_a_policy_by_promise_turns_away_from_what_is_pruned(tmp_path: Path) -> None:
    result, _ = run(tmp_path, sized_by(by_quality), search="promise", limits=Limits(model_mb=LIMIT_MB))
    pruned = [trial.over_limit is not None for trial in result.trials.values()]
    # The best losses are those just inside the limit; half of an even draw would be outside.
    assert sum(pruned[20:]) < 10


def test_a_model_that_grew_over_a_limit_may_win_with_the_checkpoint_before(tmp_path: Path) -> None:
    result, story = run(tmp_path, sized_by(by_units), limits=Limits(model_mb=LIMIT_MB))
    outgrown = [trial for trial in result.trials.values() if trial.over_limit is not None]
    assert outgrown
    for trial in outgrown:
        assert trial.units < MAX_UNITS / 2
        assert trial.value is not None
        assert trial.measured is not None
        assert trial.measured.model_mb <= LIMIT_MB
        assert (tmp_path / "study").exists()
        told = next(one for one in story.trials if one.trial_id == trial.trial_id)
        assert told.segments[-1].end is SegmentEnd.OVER_LIMIT
        assert (told.value, told.units, told.measured) == (trial.value, trial.units, trial.measured)
    assert not any(trial.state == "complete" for trial in result.trials.values())


def test_where_no_trial_keeps_the_limits_the_error_says_the_numbers(tmp_path: Path) -> None:
    result, story = run(tmp_path, sized_by(lambda _: 3.0), limits=Limits(model_mb=LIMIT_MB))
    assert not result.ranked()
    with pytest.raises(GateFailed, match=r"broken by each of 40 trials \(t0000 \(toy\) needs 3 MB, over tune.limits"):
        select_winner(
            result,
            simplicity=("toy", "other"),
            within=0.0,
            limits=Limits(model_mb=LIMIT_MB),
            measure=lambda _: Measured(p99_ms=1.0, model_mb=1.0),
        )
    assert "No trial has given a score" in render_report(report_on(story, cap_usd=1.0))


def test_limits_name_the_number_and_the_limit() -> None:
    limits = Limits(p99_ms=20, model_mb=5)
    assert limits.violation(Measured(p99_ms=20.0, model_mb=5.0)) is None
    assert limits.violation(None) is None
    too_slow = limits.violation(Measured(p99_ms=31.0, model_mb=1.0))
    assert too_slow == "needs 31 ms at p99, over tune.limits.p99_ms = 20"
    assert Limits().violation(Measured(p99_ms=1e9, model_mb=1e9)) is None


def test_a_study_goes_on_with_what_it_had_pruned(tmp_path: Path) -> None:
    limits = Limits(model_mb=LIMIT_MB)
    result, _ = run(tmp_path, sized_by(by_quality), limits=limits)
    plan = replace(synthetic_plan(families=("toy", "other"), num_slots=2, max_trials=40, seed=3), limits=limits)
    study, ledger = open_study(plan, tmp_path, cap_usd=10.0, clock=VirtualClock(90_000.0))
    states = {trial.trial_id: str(trial.state) for trial in study.trials}
    again = study.finish()
    ledger.close()
    assert states == {name: trial.state for name, trial in result.trials.items()}
    assert {name: one.over_limit for name, one in again.trials.items()} == {
        name: one.over_limit for name, one in result.trials.items()
    }
    assert [one.measured for one in again.ranked()] == [one.measured for one in result.ranked()]


def test_pruned_trials_are_told_and_the_front_is_in_latency(tmp_path: Path) -> None:
    _, story = run(tmp_path, sized_by(by_quality), limits=Limits(model_mb=LIMIT_MB))
    pruned = [trial for trial in story.trials if trial.over_limit is not None]
    text = study_text(story, None)
    assert f"given up for what their models need: {len(pruned)} trials" in text
    assert f"failed: {pruned[0].over_limit}" in text
    told = trial_text(pruned[0], story)
    assert f"then      given up: {pruned[0].over_limit}" in told
    assert "serves    in 1 ms at p99, with" in told
    last = pruned[0].segments[-1].decision
    assert last is not None
    assert (last.action, pruned[0].state) == (Action.STOP, TrialState.FAILED)
    report = report_on(story, cap_usd=1.0)
    assert (report.pareto.third_axis, report.pareto.num_measured) == ("p99_ms", len(story.ranked()))
    assert not {one.trial_id for one in report.pareto.points} & {trial.trial_id for trial in pruned}
    assert f"{len(pruned)} trials were given up for a model over tune.limits" in render_report(report)
    rows = {row["trial_id"]: row for row in json.loads(json.dumps(report.to_json()))["trials"]}
    assert rows[pruned[0].trial_id]["over_limit"] == pruned[0].over_limit
    assert rows[story.ranked()[0].trial_id]["measured"]["p99_ms"] == FAST_MS
