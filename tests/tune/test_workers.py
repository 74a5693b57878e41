"""CPU or GPU for each piece of a study, by dollars, on a virtual clock with learners of known speed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcluster.cost import WorkerKind
from mlcluster.train import Segment, TrialReport
from mlcluster.tune import (
    SegmentStory,
    StudyBudget,
    StudyResult,
    StudyStory,
    VirtualClock,
    first_on,
    read_journal,
    simulate_study,
    tell_study,
)
from mlcluster.tune.piece import SEGMENT_OVERHEAD_SECONDS
from tests.tune.studies import Speeds, journal_of, open_study, report_of, synthetic_plan, width_plan

SPEEDS = Speeds()
CAP_USD = 1e4


def kinds(*, num_cpus: int = 2, num_gpus: int = 1, gpu_usd: float = 8e-4) -> tuple[WorkerKind, ...]:
    return (
        WorkerKind(name="cpu", num_slots=num_cpus, usd_per_second=1e-4),
        WorkerKind(name="gpu", num_slots=num_gpus, usd_per_second=gpu_usd, resources={"CPU": 1.0, "GPU": 1.0}),
    )


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def exactly_as_estimated(segment: Segment) -> TrialReport:
    """So that what the cost model learns is that the estimates are right."""
    units = segment.stop_units - segment.start_units
    seconds = SPEEDS.seconds(float(segment.configuration["width"]), units, segment.device)
    return report_of(segment, seconds=SEGMENT_OVERHEAD_SECONDS + seconds)


def searched(
    folder: Path, of_kinds: tuple[WorkerKind, ...], *, max_trials: int = 60, seed: int = 0
) -> tuple[StudyResult, StudyStory]:
    clock = VirtualClock(1_000.0)
    plan = width_plan(of_kinds, SPEEDS, max_trials=max_trials, seed=seed)
    study, ledger = open_study(plan, folder, cap_usd=CAP_USD, clock=clock)
    result = simulate_study(study, exactly_as_estimated, clock)
    ledger.close()
    return result, tell_study(read_journal(folder / "study" / "journal.jsonl"), result)


def switch_of(of_kinds: tuple[WorkerKind, ...], units: int = 1) -> int:
    """The width from which a net belongs on the GPU, for that many units."""
    found = first_on(
        "gpu",
        range(1, 10_001),
        of_kinds,
        lambda width: {
            kind.name: SEGMENT_OVERHEAD_SECONDS + SPEEDS.seconds(width, units, kind.name) for kind in of_kinds
        },
    )
    assert found is not None
    return found


def placed(story: StudyStory) -> list[tuple[int, SegmentStory]]:
    """Width and segment of each piece of a net."""
    return [
        (int(trial.configuration["width"]), segment)
        for trial in story.trials
        if trial.family == "nets"
        for segment in trial.segments
    ]


@pytest.mark.parametrize("gpu_usd", [2e-4, 8e-4, 2e-3])
def test_small_nets_run_on_cpus_and_large_ones_on_the_gpu_and_the_switch_is_the_crossover(
    tmp_path: Path, gpu_usd: float
) -> None:
    of_kinds = kinds(gpu_usd=gpu_usd)
    _, story = searched(tmp_path, of_kinds)
    by_price = [(width, one) for width, one in placed(story) if one.worker_reason.startswith("cheapest: ")]
    assert {one.worker for _, one in by_price} == {"cpu", "gpu"}
    for width, one in by_price:
        is_wide = width >= switch_of(of_kinds, one.stop_units - one.start_units)
        assert one.worker == ("gpu" if is_wide else "cpu"), (width, one)


def test_a_dearer_gpu_moves_the_switch_to_wider_nets() -> None:
    switches = [switch_of(kinds(gpu_usd=price)) for price in (2e-4, 8e-4, 3e-3)]
    assert switches == sorted(switches)
    # 100 nets a second for $1e-4 against $8e-4 for a second and an 8,000th: 888.9 of width, and 63.6 for the overhead.
    assert 900 <= switches[1] <= 1_000


def test_only_what_knows_the_gpu_runs_there(tmp_path: Path) -> None:
    _, story = searched(tmp_path, kinds())
    workers = {one.worker for trial in story.trials if trial.family == "trees" for one in trial.segments}
    assert workers == {"cpu"}


def test_where_one_kind_has_too_much_to_do_the_other_helps_only_if_it_is_done_no_later(tmp_path: Path) -> None:
    """One core that all narrow nets are cheapest on, and an idle GPU that takes a second for each of them."""
    of_kinds = kinds(num_cpus=1, gpu_usd=1.0)
    _, story = searched(tmp_path, of_kinds)
    helped = [(width, one) for width, one in placed(story) if one.worker == "gpu"]
    assert helped
    assert all(one.worker_reason.startswith("the gpu worker would idle, and has it done in ") for _, one in helped)
    assert min(width for width, _ in helped) > 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1_000),
    num_cpus=st.integers(1, 3),
    num_gpus=st.integers(1, 2),
    gpu_usd=st.sampled_from([1e-5, 8e-4, 1e-1]),
)
def test_what_trials_cost_and_what_idled_is_the_bill_whatever_the_kinds_cost(
    seed: int, num_cpus: int, num_gpus: int, gpu_usd: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    of_kinds = kinds(num_cpus=num_cpus, num_gpus=num_gpus, gpu_usd=gpu_usd)
    result, story = searched(tmp_path_factory.mktemp("study"), of_kinds, max_trials=25, seed=seed)
    idle_usd = 0.0
    for kind in of_kinds:
        held = [one.held_seconds or 0.0 for trial in story.trials for one in trial.segments if one.worker == kind.name]
        assert sum(held) <= kind.num_slots * result.seconds + 1e-6, "more pieces at a time than slots"
        idle_usd += kind.usd_per_second * (kind.num_slots * result.seconds - sum(held))
    trials_usd = sum(trial.usd for trial in result.trials.values())
    assert trials_usd + idle_usd + result.lost_usd == pytest.approx(result.usd)
    assert sum(trial.usd for trial in story.trials) == pytest.approx(trials_usd)
    assert len(result.trials) == 25
    assert all(trial.value is not None for trial in result.trials.values())


def test_no_slot_idles_behind_a_trial_that_belongs_on_another_kind(tmp_path: Path) -> None:
    """While the GPU is busy with a wide net and the next is as wide, the core takes the narrow one behind that."""
    _, story = searched(tmp_path, kinds(num_cpus=1))
    pieces = [one for trial in story.trials for one in trial.segments]
    last_start = max(trial.segments[0].started_at for trial in story.trials)
    on_cpu = sorted((one for one in pieces if one.worker == "cpu"), key=lambda one: one.started_at)
    assert len(on_cpu) > 20
    free_at = 0.0
    for one in on_cpu:
        if one.started_at <= last_start:
            assert one.started_at == pytest.approx(free_at), "the core idled, with trials left to start"
        free_at = one.started_at + (one.held_seconds or 0.0)


def test_what_belongs_on_another_kind_stands_in_line_for_it(tmp_path: Path) -> None:
    plan = width_plan(kinds(gpu_usd=1e-5), SPEEDS, max_trials=60)
    study, ledger = open_study(plan, tmp_path, cap_usd=CAP_USD, clock=VirtualClock(0.0))
    (tree,) = study.next_piece("cpu")
    assert (tree.trial_id, tree.family, tree.device) == ("t0001", "trees", "cpu")
    assert [(event["trial_id"], event["worker"]) for event in journal_of(tmp_path, "line")] == [("t0000", "gpu")]
    (net,) = study.next_piece("gpu")
    assert (net.trial_id, net.family, net.device) == ("t0000", "nets", "gpu")
    assert study.next_piece("gpu") == ()
    assert [event["worker"] for event in journal_of(tmp_path, "start")] == ["cpu", "gpu"]
    study.end_overdue()
    study.finish()
    ledger.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_new_driver_without_the_gpu_trains_on_cpus_what_ran_there_and_what_stood_in_line(tmp_path: Path) -> None:
    clock = VirtualClock(0.0)
    before = kinds(num_cpus=9, gpu_usd=1e-5)
    study, ledger = open_study(width_plan(before, SPEEDS, max_trials=9), tmp_path, cap_usd=CAP_USD, clock=clock)
    study.next_piece("cpu")
    study.next_piece("gpu")
    while not study.num_in_line("gpu"):
        assert study.next_piece("cpu")
    ledger.close()

    clock.now += 1.0
    plan = width_plan(before[:1], SPEEDS, max_trials=9)
    again, ledger = open_study(plan, tmp_path, cap_usd=CAP_USD, clock=clock)
    (waited,) = {event["trial_id"] for event in journal_of(tmp_path, "unline")}
    assert [trial.units for trial in again.trials] == [0] * len(again.trials)
    result = simulate_study(again, exactly_as_estimated, clock)
    ledger.close()
    assert len(result.trials) == 9
    assert all(trial.value is not None for trial in result.trials.values())
    story = tell_study(read_journal(tmp_path / "study" / "journal.jsonl"), result)
    workers = {trial.trial_id: [one.worker for one in trial.segments] for trial in story.trials}
    assert workers["t0000"][:2] == ["gpu", "cpu"]
    assert set(workers[waited]) == {"cpu"}


def test_one_kind_of_worker_is_what_it_was_with_a_reason_for_nothing(tmp_path: Path) -> None:
    clock = VirtualClock(0.0)
    plan = synthetic_plan(num_slots=2, max_trials=9)
    assert [(kind.name, kind.num_slots) for kind in plan.budget.kinds] == [("cpu", 2)]
    assert replace(plan.budget, seconds=5.0).kinds == plan.budget.kinds
    study, ledger = open_study(plan, tmp_path, cap_usd=1.0, clock=clock)
    simulate_study(study, lambda segment: report_of(segment, seconds=1.0), clock)
    ledger.close()
    assert {(event["worker"], event["worker_reason"]) for event in journal_of(tmp_path, "start")} == {("cpu", "")}
    assert not list(journal_of(tmp_path, "line"))


def test_slots_of_kinds_are_billed_together() -> None:
    budget = StudyBudget.of_kinds(kinds(num_cpus=3, num_gpus=2), seconds=60.0)
    assert (budget.num_slots, budget.usd_per_second) == (5, pytest.approx(3e-4 + 16e-4))
    assert budget.kind("gpu").num_slots == 2
