"""Money, minutes and memory, on a virtual clock: whatever the durations are and whenever a driver dies."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcluster.cost import Ledger
from mlcluster.errors import ClusterError, SpecError
from mlcluster.search import TrialState
from mlcluster.train import FAMILIES, DataSize, Segment, TrialReport
from mlcluster.tune import (
    Ending,
    Study,
    StudyPlan,
    StudyResult,
    VirtualClock,
    check_room_for_one_trial,
    plan_study,
    simulate_study,
)
from mlcluster.tune.course import MAX_FIRST_FAILURES
from tests.tune.studies import RUNGS, journal_of, open_study, report_of, synthetic_plan

ROUNDING = 1e-6
abandoning = pytest.mark.filterwarnings("ignore::ResourceWarning")
"""For tests in which a driver dies: it closes none of its files."""


class DriverDies(BaseException):
    """The process is gone: nothing may catch it."""


@dataclass
class Disk:
    """Stands in for `os.fsync`: at the given call the machine dies, with some of what was written not yet on disk."""

    dies_at: int | None = None
    torn_share: float = 0.0
    calls: int = 0
    on_disk_bytes: dict[Path, int] = field(default_factory=dict)
    """By file: what is certain to outlive the machine."""

    def fsync(self, descriptor: int) -> None:
        self.calls += 1
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        if self.calls != self.dies_at:
            self.on_disk_bytes[path] = path.stat().st_size
            return
        self.on_disk_bytes.setdefault(path, 0)
        for each, on_disk_bytes in self.on_disk_bytes.items():
            lost_bytes = round(self.torn_share * (each.stat().st_size - on_disk_bytes))
            os.truncate(each, each.stat().st_size - lost_bytes)
        raise DriverDies


@dataclass
class Truth:
    """What the nodes really cost and how long they really ran, whatever the study believes."""

    plan: StudyPlan
    cap_usd: float
    billed_seconds: float = 0.0
    """Of earlier drivers."""
    started_at: float | None = None

    @property
    def rate(self) -> float:
        return self.plan.budget.usd_per_second

    def check(self, now: float, ledger: Ledger | None = None) -> None:
        seconds = self.billed_seconds + (0.0 if self.started_at is None else now - self.started_at)
        assert seconds <= self.plan.budget.seconds + ROUNDING, "the study took more minutes than it had"
        assert seconds * self.rate <= self.cap_usd + ROUNDING, "the nodes cost more than the cap"
        if ledger is not None:
            assert ledger.spent_usd + ledger.reserved_usd <= self.cap_usd + ROUNDING
            assert ledger.spent_usd + ledger.reserved_usd >= seconds * self.rate - ROUNDING, "nodes ran unpaid"

    def end_of_driver(self, now: float) -> None:
        if self.started_at is not None:
            self.billed_seconds += now - self.started_at
        self.started_at = None


class CheckedClock(VirtualClock):
    """Checks the bill at each moment at which anything happens; the bill only grows between two of them."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self.ledger: Ledger | None = None
        self._now = 1_000.0

    @property
    def now(self) -> float:  # type: ignore[override]
        return self._now

    @now.setter
    def now(self, value: float) -> None:
        assert value >= self._now
        self._truth.check(value, self.ledger)
        self._now = value


@dataclass
class RandomTraining:
    """Segments that take a random multiple of what was expected, that are cut or overrun, or whose worker is lost."""

    rng: np.random.Generator
    slowdown_sigma: float
    loss_share: float
    reported: list[tuple[str, int, int]] = field(default_factory=list)

    def __call__(self, segment: Segment) -> TrialReport | None:
        if self.rng.random() < self.loss_share:
            return None
        units = segment.stop_units - segment.start_units
        unit_seconds = float(np.exp(self.rng.normal(0.0, self.slowdown_sigma)))
        if units * unit_seconds <= segment.limit_seconds:
            return self._report(segment, segment.stop_units, units * unit_seconds)
        fitting = int(segment.limit_seconds / unit_seconds)
        if fitting == 0:
            return None  # the watchdog ends it
        return self._report(segment, segment.start_units + fitting, fitting * unit_seconds)

    def together(self, segments: tuple[Segment, ...]) -> tuple[TrialReport, ...] | None:
        """As fast as the longest of them alone; a cut leaves all with as many units."""
        longest = max(segments, key=lambda segment: segment.stop_units - segment.start_units)
        report = self(longest)
        if report is None:
            return None
        self.reported.pop()
        units, seconds = report.units - longest.start_units, report.seconds / len(segments)
        return tuple(
            self._report(segment, min(segment.stop_units, segment.start_units + units), seconds) for segment in segments
        )

    def _report(self, segment: Segment, units: int, seconds: float) -> TrialReport:
        self.reported.append((segment.trial_id, segment.start_units, units))
        return report_of(segment, seconds=seconds, units=units)


@dataclass(frozen=True)
class Schedule:
    """One random course of events."""

    seed: int
    num_slots: int
    seconds: float
    cap_usd: float
    slowdown_sigma: float
    loss_share: float
    max_together: int
    num_gpus: int
    crashes: tuple[tuple[int, float, float], ...]
    """Per driver that dies: at which write, how much of that line is torn off, seconds until the next driver."""


schedules = st.builds(
    Schedule,
    seed=st.integers(0, 2**31),
    num_slots=st.integers(1, 3),
    seconds=st.floats(10.0, 150.0),
    cap_usd=st.floats(0.1, 1.5),
    slowdown_sigma=st.sampled_from([0.0, 0.5, 2.0]),
    loss_share=st.sampled_from([0.0, 0.1, 0.5]),
    max_together=st.sampled_from([1, 4]),
    num_gpus=st.sampled_from([0, 1, 2]),
    crashes=st.lists(st.tuples(st.integers(1, 60), st.floats(0.0, 1.0), st.floats(0.0, 30.0)), max_size=3).map(tuple),
)


def run_through_crashes(
    schedule: Schedule, folder: Path, patch: pytest.MonkeyPatch
) -> tuple[StudyResult, RandomTraining, Truth]:
    """Drives one study to its end, with a new driver after each crash."""
    plan = synthetic_plan(
        families=("toy", "tree"),
        num_slots=schedule.num_slots,
        seconds=schedule.seconds,
        usd_per_second=0.01,
        max_trials=30,
        seed=schedule.seed % 1000,
        max_together=schedule.max_together,
        num_gpus=schedule.num_gpus,
    )
    truth = Truth(plan, schedule.cap_usd)
    clock = CheckedClock(truth)
    training = RandomTraining(np.random.default_rng(schedule.seed), schedule.slowdown_sigma, schedule.loss_share)
    for dies_at, torn_share, downtime_seconds in (*schedule.crashes, (None, 0.0, 0.0)):
        on_disk_bytes = {path: path.stat().st_size for path in folder.rglob("*.jsonl")}
        patch.setattr(os, "fsync", Disk(dies_at, torn_share, on_disk_bytes=on_disk_bytes).fsync)
        ledger = None
        try:
            study, ledger = open_study(plan, folder, cap_usd=schedule.cap_usd, clock=clock)
            clock.ledger, truth.started_at = ledger, clock.now
            return simulate_study(study, training, clock, together=training.together), training, truth
        except DriverDies:
            truth.end_of_driver(clock.now)
            clock.ledger = None
            clock.now += downtime_seconds
        finally:
            if ledger is not None:
                ledger.close()
    raise AssertionError("the last driver does not die")


@abandoning
@settings(max_examples=1_000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schedule=schedules)
def test_money_and_minutes_hold_at_every_moment_through_slow_work_lost_workers_and_dead_drivers(
    schedule: Schedule, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        result, training, truth = run_through_crashes(schedule, folder, patch)
    assert result.usd <= schedule.cap_usd + ROUNDING
    assert result.seconds <= schedule.seconds + ROUNDING
    assert result.usd >= truth.billed_seconds * truth.rate - ROUNDING
    assert sum(trial.usd for trial in result.trials.values()) <= result.usd + ROUNDING
    if not schedule.crashes:
        assert len(set(training.reported)) == len(training.reported), "a segment was trained twice"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def paced(segment: Segment) -> TrialReport:
    return report_of(segment, seconds=0.5 * (segment.stop_units - segment.start_units))


def simulated(plan: StudyPlan, folder: Path, *, cap_usd: float = 10.0) -> StudyResult:
    clock = VirtualClock(1_000.0)
    study, ledger = open_study(plan, folder, cap_usd=cap_usd, clock=clock)
    result = simulate_study(study, paced, clock)
    ledger.close()
    return result


def memory_of(study: Study) -> dict[str, object]:
    """All that the policy knows, trial by trial; what ran when the driver died stands where it stood before."""
    return {
        trial.trial_id: (trial.candidate, trial.rung, trial.units, trial.target_units, dict(trial.losses))
        for trial in study.trials
    }


@abandoning
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000),
    num_segments=st.integers(0, 40),
    num_slots=st.integers(1, 3),
    max_together=st.integers(1, 5),
    num_gpus=st.integers(0, 1),
)
def test_a_new_driver_knows_all_that_the_dead_one_knew_and_runs_nothing_twice(
    seed: int,
    num_segments: int,
    num_slots: int,
    max_together: int,
    num_gpus: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("study")
    families = ("toy", "tree") if num_gpus else ("toy",)
    plan = synthetic_plan(
        families=families, num_slots=num_slots, max_trials=15, seed=seed, max_together=max_together, num_gpus=num_gpus
    )
    clock = VirtualClock(1_000.0)
    executed: list[tuple[str, int]] = []

    def dying(segment: Segment) -> TrialReport:
        if len(executed) == num_segments:
            raise DriverDies
        return training(segment)

    def training(segment: Segment) -> TrialReport:
        executed.append((segment.trial_id, segment.start_units))
        return paced(segment)

    study, ledger = open_study(plan, folder, cap_usd=10.0, clock=clock)
    try:
        simulate_study(study, dying, clock)
    except DriverDies:
        pass
    else:
        ledger.close()
        return
    running = {trial.trial_id for trial in study.trials if trial.state is TrialState.RUNNING}
    finished = [key for key in executed if key[0] not in running]
    before, best, spent_and_reserved = memory_of(study), study.best, ledger.spent_usd + ledger.reserved_usd
    shares = ledger.shares_of("tune")
    ledger.close()

    clock.now += 5.0
    executed.clear()
    again, ledger = open_study(plan, folder, cap_usd=10.0, clock=clock)
    assert again.is_resumed
    assert memory_of(again) == before
    assert again.best == best
    assert ledger.shares_of("tune") == shares
    assert ledger.reserved_usd == 0.0
    assert ledger.spent_usd <= spent_and_reserved + ROUNDING
    result = simulate_study(again, training, clock)
    ledger.close()
    assert not set(executed) & set(finished)
    assert len(result.trials) == 15
    assert all(trial.value is not None for trial in result.trials.values())


@abandoning
def test_a_resumed_study_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    """With one worker, and no time lost that the budget would miss, even the order of decisions is the same."""
    plan = synthetic_plan(max_trials=12, seed=3)
    unbroken = simulated(plan, tmp_path / "unbroken")
    clock, reports = VirtualClock(1_000.0), 0
    study, ledger = open_study(plan, tmp_path / "broken", cap_usd=10.0, clock=clock)
    while reports < 7:
        segment = study.next_segment()
        assert segment is not None
        report = paced(segment)
        clock.now += report.seconds
        study.report(report)
        reports += 1
    ledger.close()
    study, ledger = open_study(plan, tmp_path / "broken", cap_usd=10.0, clock=clock)
    resumed = simulate_study(study, paced, clock)
    ledger.close()
    assert {name: (t.rung, t.value, t.curve) for name, t in resumed.trials.items()} == {
        name: (t.rung, t.value, t.curve) for name, t in unbroken.trials.items()
    }
    assert decisions(tmp_path / "broken") == decisions(tmp_path / "unbroken")


@dataclass
class FlawedTraining:
    """Some segments lose their worker the first time, and some trials diverge: always the same ones of a seed."""

    seed: int
    lost: set[tuple[str, int]] = field(default_factory=set)
    """Trial and start units of what was lost already."""

    def __call__(self, segment: Segment) -> TrialReport | None:
        key = (segment.trial_id, segment.start_units)
        number = 7 * int(segment.trial_id[1:]) + segment.start_units + self.seed
        if number % 5 == 0 and key not in self.lost:
            self.lost.add(key)
            return None
        report = paced(segment)
        return replace(report, loss=math.inf) if number % 11 == 0 else report


def cut_copy(folder: Path, to: Path, num_events: int) -> set[tuple[str, int]]:
    """Copies the first events of a study's journal; gives the segments that were lost in them."""
    (to / "study").mkdir(parents=True)
    lines = (folder / "study" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (to / "study" / "journal.jsonl").write_bytes(b"".join(lines[:num_events]))
    started: dict[str, int] = {}
    lost = set()
    for event in map(json.loads, lines[:num_events]):
        if event["kind"] == "start":
            started[event["trial_id"]] = event["start_units"]
        if event["kind"] == "lost":
            lost.add((event["trial_id"], started[event["trial_id"]]))
    return lost


def driven(folder: Path, training: FlawedTraining, plan: StudyPlan) -> StudyResult:
    clock = VirtualClock(5_000.0)
    study, ledger = open_study(plan, folder, cap_usd=10.0, clock=clock)
    result = simulate_study(study, training, clock)
    ledger.close()
    return result


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), cut_share=st.floats(0.0, 1.0), families=st.sampled_from([("toy",), ("toy", "tree")]))
def test_a_study_that_is_interrupted_after_any_event_decides_and_ends_as_an_undisturbed_one(
    seed: int, cut_share: float, families: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One worker: with several, what runs when the driver dies begins again at once, and reports in another order."""
    folder = tmp_path_factory.mktemp("study")
    plan = synthetic_plan(families=families, max_trials=14, seed=seed)
    undisturbed = driven(folder / "undisturbed", FlawedTraining(seed), plan)
    num_events = len((folder / "undisturbed" / "study" / "journal.jsonl").read_bytes().splitlines()) - 1
    lost = cut_copy(folder / "undisturbed", folder / "resumed", round(cut_share * num_events))
    resumed = driven(folder / "resumed", FlawedTraining(seed, lost), plan)
    assert told_of(resumed) == told_of(undisturbed)
    assert without_repeats(decisions(folder / "resumed")) == without_repeats(decisions(folder / "undisturbed"))


def told_of(result: StudyResult) -> dict[str, object]:
    """A result without its dollars and moments."""
    trials = {name: (t.state, t.rung, t.units, t.value, t.curve, t.checkpoint) for name, t in result.trials.items()}
    return {**trials, "ending": result.ending, "best": [(step.trial_id, step.value) for step in result.improvements]}


def without_repeats(starts: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """What was interrupted, or lost, is begun again as the next thing."""
    return [start for index, start in enumerate(starts) if index == 0 or start != starts[index - 1]]


def decisions(folder: Path) -> list[tuple[object, ...]]:
    return [
        (event["trial_id"], event["candidate"], event["rung"], event["start_units"], event["stop_units"])
        for event in journal_of(folder, "start")
    ]


def test_the_same_seed_and_reports_give_the_same_decisions_and_another_seed_other_trials(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulated(synthetic_plan(num_slots=2, max_trials=20, seed=seed), tmp_path / name)
    assert decisions(tmp_path / "a") == decisions(tmp_path / "b")
    configurations = [{str(event[1]) for event in decisions(tmp_path / name)} for name in ("a", "c")]
    assert len(configurations[0] & configurations[1]) == 1  # the family's default


def test_any_seed_that_a_user_may_give_becomes_trial_seeds_of_32_bits(folder: Path) -> None:
    seeds = [trial.seed for trial in simulated(synthetic_plan(max_trials=9, seed=10**12), folder).trials.values()]
    assert len(set(seeds)) == 9
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_what_a_study_leaves_unspent_is_free_for_the_next_stage(folder: Path) -> None:
    clock = VirtualClock(0.0)
    study, ledger = open_study(synthetic_plan(max_trials=3), folder, cap_usd=10.0, clock=clock)
    result = simulate_study(study, paced, clock)
    assert ledger.reserved_usd == 0.0
    assert result.usd == pytest.approx(clock.now * 1e-4)
    assert ledger.free_usd == pytest.approx(10.0 - result.usd)
    ledger.close()


def test_idle_workers_are_on_the_bill_and_trials_carry_only_their_share(folder: Path) -> None:
    plan = synthetic_plan(num_slots=4, max_trials=1, usd_per_second=0.01)
    result = simulated(plan, folder)
    assert result.usd == pytest.approx(result.seconds * 0.01)
    assert result.trials["t0000"].usd == pytest.approx(result.usd / 4)


def test_a_study_says_done_only_once_each_family_was_tried_and_one_trial_reached_the_top(tmp_path: Path) -> None:
    assert simulated(synthetic_plan(max_trials=27), tmp_path / "a").ending is Ending.DONE
    assert simulated(synthetic_plan(max_trials=3), tmp_path / "b").ending is Ending.BUDGET
    cut = simulated(synthetic_plan(families=("toy", "other"), max_trials=1), tmp_path / "c")
    assert cut.ending is Ending.BUDGET


def test_the_result_ranks_by_validation_score_and_its_improvements_only_improve(folder: Path) -> None:
    result = simulated(synthetic_plan(max_trials=27), folder)
    values = [trial.value for trial in result.ranked()]
    assert values == sorted(values)
    scores = [improvement.value for improvement in result.improvements]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] == values[0]
    assert [step.usd for step in result.improvements] == sorted(step.usd for step in result.improvements)
    assert result.trials[result.improvements[-1].trial_id].rung == len(RUNGS) - 1


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_trial_without_a_finite_loss_fails_and_the_study_goes_on(folder: Path, loss: float) -> None:
    clock = VirtualClock(0.0)

    def training(segment: Segment) -> TrialReport:
        report = paced(segment)
        if segment.trial_id != "t0001":
            return report
        return TrialReport(
            trial_id="t0001", units=report.units, loss=loss, seconds=report.seconds, curve=report.curve,
            checkpoint=report.checkpoint,
        )  # fmt: skip

    study, ledger = open_study(synthetic_plan(max_trials=6), folder, cap_usd=10.0, clock=clock)
    result = simulate_study(study, training, clock)
    ledger.close()
    assert result.trials["t0001"].state == "failed"
    assert result.trials["t0001"].value is None
    assert len(result.trials) == 6
    assert "t0001" not in {trial.trial_id for trial in result.ranked()}
    again, ledger = open_study(synthetic_plan(max_trials=6), folder, cap_usd=10.0, clock=clock)
    assert again.trials[1].state is TrialState.FAILED
    again.finish()
    ledger.close()


@abandoning
def test_a_trial_that_kills_its_worker_is_given_up_for_good_even_if_the_driver_dies_meanwhile(folder: Path) -> None:
    """The second loss and the giving up are one decision, wherever between its writes the driver dies."""
    plan = synthetic_plan(max_trials=1)
    for num_written in (1, 2):
        here, clock = folder / str(num_written), VirtualClock(0.0)
        study, ledger = open_study(plan, here, cap_usd=10.0, clock=clock)
        study.next_segment()
        study.lose("t0000", "its worker was lost")
        study.next_segment()
        journal = here / "study" / "journal.jsonl"
        before = journal.read_bytes()
        study.lose("t0000", "its worker was lost")
        written = journal.read_bytes()[len(before) :].splitlines(keepends=True)
        assert len(written) == 2
        journal.write_bytes(before + b"".join(written[:num_written]))
        ledger.close()
        again, ledger = open_study(plan, here, cap_usd=10.0, clock=clock)
        assert again.trials[0].state is TrialState.FAILED
        assert again.next_segment() is None
        again.finish()
        ledger.close()


@abandoning
def test_a_checkpoint_is_only_deleted_once_the_report_that_supersedes_it_is_on_disk(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the machine could die with neither, and the trial would have nothing to go on from."""
    kept, clock = folder / "study" / "checkpoints", VirtualClock(0.0)
    kept.mkdir(parents=True)
    study, ledger = open_study(synthetic_plan(max_trials=3), folder, cap_usd=10.0, clock=clock)
    while (segment := study.next_segment()) is not None and segment.start_units == 0:
        (kept / f"{segment.trial_id}-1.state").write_bytes(b"state")
        study.report(paced(segment))
    assert segment is not None
    superseded = kept / f"{segment.trial_id}-1.state"
    seen: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(superseded.exists()))
    study.report(paced(segment))
    assert superseded.exists()
    study.next_segment()
    assert seen and all(seen)
    assert not superseded.exists()
    ledger.close()


def test_only_checkpoints_that_may_be_needed_are_kept(folder: Path) -> None:
    clock = VirtualClock(0.0)
    kept = folder / "study" / "checkpoints"
    kept.mkdir(parents=True)

    def training(segment: Segment) -> TrialReport:
        report = paced(segment)
        (kept / report.checkpoint).write_bytes(b"state")
        return report

    study, ledger = open_study(synthetic_plan(max_trials=9), folder, cap_usd=10.0, clock=clock)
    result = simulate_study(study, training, clock)
    ledger.close()
    assert {path.name for path in kept.iterdir()} == {trial.checkpoint for trial in result.trials.values()}


@pytest.mark.parametrize("damage", [b"garbage", b"[]", b'{"kind": "report"}'])
def test_a_damaged_journal_is_refused_and_named(folder: Path, damage: bytes) -> None:
    simulated(synthetic_plan(max_trials=2), folder)
    path = folder / "study" / "journal.jsonl"
    first, *rest = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([first, damage, *rest]))
    with pytest.raises(ClusterError, match=r"journal\.jsonl:2 is no journal entry; restore"):
        simulated(synthetic_plan(max_trials=2), folder)


def test_nothing_starts_where_not_even_one_segment_fits(folder: Path) -> None:
    result = simulated(synthetic_plan(usd_per_second=0.01), folder, cap_usd=0.05)
    assert result.trials == {}
    assert result.usd == 0.0
    assert result.ending is Ending.BUDGET


def test_a_budget_without_room_for_one_trial_is_refused_with_what_it_would_take() -> None:
    plan = synthetic_plan(seconds=10.0, usd_per_second=0.01)
    check_room_for_one_trial(plan, worst_case_seconds=10.0)
    with pytest.raises(SpecError, match=r"leaves 10 s for the search.*may need 20 s \(\$0\.2000\), so raise"):
        check_room_for_one_trial(plan, worst_case_seconds=20.0)


def test_a_plan_over_built_in_families_is_a_pure_function_of_the_sizes() -> None:
    sizes = {
        "ordinal": DataSize(rows=20_000, columns=14, outputs=2),
        "dense": DataSize(rows=20_000, columns=60, outputs=2),
    }
    budget = synthetic_plan(seconds=600.0).budget
    spaces = {name: FAMILIES[name].space for name in ("linear", "tree", "forest", "boosting", "mlp")}
    first, second = (
        plan_study("s", spaces, sizes, metric="roc_auc", seed=1, budget=budget)  # type: ignore[arg-type]
        for _ in range(2)
    )
    assert first.settings == second.settings
    assert first.spaces == spaces
    rungs = first.settings.rungs_seconds
    assert list(rungs) == sorted(rungs)
    assert rungs[-1] <= budget.seconds / 6 + ROUNDING


def test_a_study_whose_trials_all_raise_ends_with_their_error(tmp_path: Path) -> None:
    study, ledger = open_study(synthetic_plan(), tmp_path, cap_usd=1.0, clock=VirtualClock())
    num_failed = 0
    while (segment := study.next_segment()) is not None:
        study.fail(segment.trial_id, "ValueError: no such column")
        num_failed += 1
    assert num_failed == MAX_FIRST_FAILURES
    assert study.finish().failure == "ValueError: no such column"
    ledger.close()


def test_a_trial_that_raises_is_given_up_and_the_others_go_on(tmp_path: Path) -> None:
    clock = VirtualClock()
    study, ledger = open_study(synthetic_plan(num_slots=2), tmp_path, cap_usd=1.0, clock=clock)
    first, second = study.next_segment(), study.next_segment()
    assert first is not None
    assert second is not None
    clock.now += 1.0
    study.report(report_of(first, seconds=0.5))
    study.fail(second.trial_id, "ValueError: bad luck")
    states = {trial.trial_id: trial.state for trial in study.trials}
    assert states[second.trial_id] is TrialState.FAILED
    assert study.next_segment() is not None
    assert study.failure is None
    study.end_overdue()
    study.finish()
    ledger.close()


def test_workers_that_are_held_beyond_what_was_paid_for_are_given_back(tmp_path: Path) -> None:
    clock = VirtualClock()
    study, ledger = open_study(synthetic_plan(), tmp_path, cap_usd=1.0, clock=clock)
    segment = study.next_segment()
    assert segment is not None
    assert not study.is_overdue
    clock.now = segment.deadline + 60.0
    assert study.is_overdue
    study.end_overdue()
    assert study.num_running == 0
    study.finish()
    assert ledger.spent_usd + ledger.reserved_usd <= ledger.cap_usd
    ledger.close()
