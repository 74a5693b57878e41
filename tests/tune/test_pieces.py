"""Several trials as one piece of work: when that is worth it, and what becomes of each of them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlcluster.search import Candidate, Suggestion
from mlcluster.train import (
    FAMILIES,
    CheckpointFolder,
    Learner,
    Segment,
    TrainingData,
    TrialReport,
    load_learner,
    run_segment,
    run_segments,
)
from mlcluster.tune import StudyBudget, StudyPlan, StudyResult, VirtualClock, plan_study, simulate_study
from mlcluster.tune.piece import (
    MAX_STRETCH,
    SEGMENT_OVERHEAD_SECONDS,
    Piece,
    done_seconds,
    is_worth_joining,
    nominal_seconds,
    work_shares,
)
from tests.train.small_data import small_data
from tests.tune.studies import SyntheticTrainer, journal_of, noted, open_study, report_of, synthetic_plan

PLAN = synthetic_plan(families=("toy", "other"), max_together=4)
abandoning = pytest.mark.filterwarnings("ignore::ResourceWarning")
"""For tests in which a study is left before its end: it closes none of its files."""


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in a worker, where a slot is one CPU."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def suggestion(trial: int, *, units: int = 1, start: int = 0, family: str = "toy") -> Suggestion:
    return Suggestion(
        trial_id=f"t{trial:04d}",
        candidate=Candidate(family=family, configuration={"quality": 0.5, "pace": 0.3}, origin="random"),
        rung=0,
        start_units=start,
        stop_units=start + units,
        reason="for a test",
    )


def reported(piece: Piece, *, cut_at: int | None = None, seconds: float = 1.0) -> Piece:
    """The piece with a report of each member, after `cut_at` units at most."""
    for member in piece.suggestions:
        units = member.stop_units if cut_at is None else min(member.stop_units, member.start_units + cut_at)
        segment = Segment(
            trial_id=member.trial_id,
            family=member.candidate.family,
            configuration=member.candidate.configuration,
            seed=0,
            start_units=member.start_units,
            stop_units=member.stop_units,
            limit_seconds=9.0,
            deadline=9.0,
        )
        piece.reports[member.trial_id] = report_of(segment, seconds=seconds, units=units)
    return piece


def test_a_piece_of_one_costs_what_its_segment_does_and_several_what_their_family_says() -> None:
    one, other = suggestion(0, units=2, start=1), suggestion(1, units=3)
    assert nominal_seconds(PLAN, [one]) == pytest.approx(SEGMENT_OVERHEAD_SECONDS + 2)
    assert nominal_seconds(PLAN, [one, other]) == pytest.approx(2 * SEGMENT_OVERHEAD_SECONDS + 3 + 0.1 * 2)


def test_shares_of_a_piece_are_those_of_the_work_and_sum_to_one() -> None:
    shares = work_shares(PLAN, [suggestion(0, units=1), suggestion(1, units=2), suggestion(2, units=1)])
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["t0000"] == shares["t0002"] < shares["t0001"]


def test_what_a_limit_has_cut_off_was_not_done() -> None:
    piece = Piece(started_at=0.0, suggestions=[suggestion(0, units=4), suggestion(1, units=4)])
    whole = done_seconds(PLAN, reported(piece))
    assert whole == nominal_seconds(PLAN, piece.suggestions)
    overhead = 2 * SEGMENT_OVERHEAD_SECONDS
    assert done_seconds(PLAN, reported(piece, cut_at=1)) == pytest.approx(overhead + (whole - overhead) / 4)


def test_seconds_are_split_as_reported_and_evenly_where_there_are_none() -> None:
    piece = reported(Piece(started_at=0.0, suggestions=[suggestion(0), suggestion(1)]))
    piece.reports["t0001"] = replace(piece.reports["t0001"], seconds=3.0)
    assert piece.seconds_shares() == {"t0000": 0.25, "t0001": 0.75}
    assert reported(piece, seconds=0.0).seconds_shares() == {"t0000": 0.5, "t0001": 0.5}


def test_only_trials_of_one_family_that_can_are_joined() -> None:
    toy = suggestion(0)
    assert is_worth_joining(PLAN, suggestion(1), [toy])
    assert not is_worth_joining(PLAN, suggestion(1, family="other"), [toy])
    assert not is_worth_joining(PLAN, suggestion(1, family="other"), [suggestion(0, family="other")])


def test_a_piece_is_not_stretched_without_end() -> None:
    members = [suggestion(0)]
    while is_worth_joining(PLAN, suggestion(len(members)), members):
        members.append(suggestion(len(members)))
    alone = nominal_seconds(PLAN, members[:1])
    assert 4 <= len(members) < 30
    assert nominal_seconds(PLAN, members) <= MAX_STRETCH * alone


def run(plan: StudyPlan, folder: Path, **trainer: Any) -> StudyResult:
    clock = VirtualClock(1_000.0)
    study, ledger = open_study(plan, folder, cap_usd=10.0, clock=clock)
    synthetic = SyntheticTrainer(folder, **trainer)
    result = simulate_study(study, synthetic, clock, together=synthetic.together)
    ledger.close()
    return result


@pytest.mark.usefixtures("quick_disk")
def test_a_study_trains_as_one_no_more_trials_than_it_may_and_only_where_it_may(tmp_path: Path) -> None:
    for max_together in (1, 3):
        folder = tmp_path / str(max_together)
        folder.mkdir()
        run(synthetic_plan(families=("toy", "other"), max_trials=20, max_together=max_together), folder)
        sizes = [len(piece) for piece in noted(folder / "together.jsonl")]
        assert max(sizes, default=1) == max_together
        families = {event["trial_id"]: event["candidate"]["family"] for event in journal_of(folder, "start")}
        assert {families[key[0]] for piece in noted(folder / "together.jsonl") for key in piece} <= {"toy"}


@abandoning
@pytest.mark.usefixtures("quick_disk")
def test_with_workers_to_spare_and_no_trial_left_to_start_each_gets_its_own(tmp_path: Path) -> None:
    plan = synthetic_plan(num_slots=3, max_trials=3, max_together=4)
    study, ledger = open_study(plan, tmp_path, cap_usd=10.0, clock=VirtualClock(1_000.0))
    (first, *others) = study.next_piece()
    assert [segment.trial_id for segment in others] == ["t0001", "t0002"]  # new trials were still to be had
    for segment in (first, *others):
        study.report(report_of(segment, seconds=0.1))
    assert [len(study.next_piece()) for _ in range(3)] == [1, 0, 0]
    ledger.close()


@pytest.mark.usefixtures("quick_disk")
def test_when_a_piece_raises_each_goes_on_alone_until_the_one_at_fault_is_found(tmp_path: Path) -> None:
    study, ledger = open_study(
        synthetic_plan(max_trials=3, max_together=3), tmp_path, cap_usd=10.0, clock=VirtualClock(1_000.0)
    )
    piece = study.next_piece()
    assert len(piece) == 3
    assert study.num_running == 1
    study.fail(piece[2].trial_id, "ValueError: one of you")
    assert study.num_running == 0
    alone = []
    while following := study.next_piece():
        assert len(following) == 1
        alone.append(following[0].trial_id)
        if following[0].trial_id == "t0001":
            study.fail("t0001", "ValueError: it was me")
        else:
            study.report(report_of(following[0], seconds=0.1))
    assert {"t0000", "t0001", "t0002"} == set(alone)
    result = study.finish()
    ledger.close()
    assert result.trials["t0001"].state == "failed"
    assert {trial.trial_id for trial in result.ranked()} == {"t0000", "t0002"}


@abandoning
@pytest.mark.usefixtures("quick_disk")
def test_a_study_of_pieces_that_is_broken_off_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    plan = synthetic_plan(max_trials=12, seed=3, max_together=4)
    (tmp_path / "unbroken").mkdir()
    (tmp_path / "broken").mkdir()
    unbroken = run(plan, tmp_path / "unbroken")
    clock = VirtualClock(1_000.0)
    study, ledger = open_study(plan, tmp_path / "broken", cap_usd=10.0, clock=clock)
    trainer = SyntheticTrainer(tmp_path / "broken")
    for _ in range(3):
        for report in trainer.together(study.next_piece()):
            study.report(report)
    shares = ledger.shares_of("tune")
    ledger.close()
    study, ledger = open_study(plan, tmp_path / "broken", cap_usd=10.0, clock=clock)
    assert ledger.shares_of("tune") == shares
    resumed = simulate_study(study, trainer, clock, together=trainer.together)
    ledger.close()
    assert {name: (t.rung, t.value, t.curve) for name, t in resumed.trials.items()} == {
        name: (t.rung, t.value, t.curve) for name, t in unbroken.trials.items()
    }
    starts = [
        [(event["trial_id"], event["piece"], event["stop_units"]) for event in journal_of(tmp_path / name, "start")]
        for name in ("broken", "unbroken")
    ]
    assert starts[0] == starts[1]


def plan_of_nets(data: TrainingData, *, seconds: float = 1e4) -> StudyPlan:
    """Eight nets of four epochs at most, of which any number may be trained as one."""
    budget = StudyBudget(seconds=seconds, num_slots=1, usd_per_second=1e-4, max_trials=8, max_together=8)
    spaces, sizes = {"mlp": FAMILIES["mlp"].space}, {"dense": data.size("dense")}
    plan = plan_study("nets", spaces, sizes, metric="roc_auc", seed=0, budget=budget)
    return replace(plan, fidelities={"mlp": replace(plan.fidelities["mlp"], max_units=4)})


def assert_trained_as_if_alone(result: StudyResult, data: TrainingData, folder: Path) -> None:
    """Each trial's best checkpoint and curve are those of the same configuration and seed, trained alone."""
    features = data.validation["dense"].features
    for trial in result.trials.values():
        alone = Segment(
            trial_id=trial.trial_id,
            family=trial.family,
            configuration=trial.configuration,
            seed=trial.seed,
            start_units=0,
            stop_units=trial.units,
            limit_seconds=1e6,
            deadline=0.0,
        )
        by_itself = CheckpointFolder(folder / "alone")
        report = run_segment(alone, data, by_itself, metric="roc_auc")
        values = [point.value for point in trial.curve[: trial.units]]
        assert values == pytest.approx([point.value for point in report.curve], abs=5e-3)
        learners: list[Learner] = [
            load_learner(replace(alone, start_units=trial.units), data, checkpoints)
            for checkpoints in (by_itself, CheckpointFolder(folder / "study" / "checkpoints"))
        ]
        scores = [learner.scores(features) for learner in learners]
        assert np.abs(scores[0] - scores[1]).max() < 1e-3


@pytest.mark.usefixtures("quick_disk", "one_thread")
def test_nets_of_a_study_are_what_they_would_be_alone_whatever_they_were_trained_with(tmp_path: Path) -> None:
    data, checkpoints = small_data("binary"), CheckpointFolder(tmp_path / "study" / "checkpoints")
    plan, clock = plan_of_nets(data), VirtualClock(1_000.0)
    study, ledger = open_study(plan, tmp_path, cap_usd=10.0, clock=clock)
    sizes: list[int] = []

    def together(segments: tuple[Segment, ...]) -> tuple[TrialReport, ...]:
        sizes.append(len(segments))
        return run_segments(segments, data, checkpoints, metric="roc_auc")

    alone = partial(run_segment, data=data, checkpoints=checkpoints, metric="roc_auc")
    result = simulate_study(study, alone, clock, together=together)
    ledger.close()
    assert max(sizes) > 1
    assert len(result.ranked()) == 8
    assert_trained_as_if_alone(result, data, tmp_path)
    assert sum(trial.usd for trial in result.trials.values()) <= result.usd * (1 + 1e-9)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.usefixtures("ray_session", "one_thread")
def test_ray_trains_nets_as_one_and_each_has_its_own_curve_and_checkpoint(tmp_path: Path) -> None:
    from mlcluster.tune.ray_study import run_study_on_ray

    data, checkpoints = small_data("binary"), CheckpointFolder(tmp_path / "study" / "checkpoints")
    study, ledger = open_study(plan_of_nets(data, seconds=90.0), tmp_path, cap_usd=10.0, clock=time.time)
    result = run_study_on_ray(
        study,
        partial(run_segment, data=data, checkpoints=checkpoints, metric="roc_auc"),
        folder=tmp_path / "ray",
        progress=lambda _: None,
        together=partial(run_segments, data=data, checkpoints=checkpoints, metric="roc_auc"),
    )
    ledger.close()
    pieces = [event["piece"] for event in journal_of(tmp_path, "start")]
    assert len(set(pieces)) < len(result.trials)
    assert len(result.ranked()) == 8
    assert_trained_as_if_alone(result, data, tmp_path)
