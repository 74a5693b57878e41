"""What every runner of a study keeps with either search policy: one suite over the simulator, Ray Tune and a replay."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlcluster.search import SearchPolicy
from mlcluster.train import Segment, TrialReport
from mlcluster.tune import Replay, StudyPlan, StudyResult, VirtualClock, read_journal, replay_study, simulate_study
from mlcluster.tune.course import MAX_LOSSES
from tests.tune.studies import (
    MAX_UNITS,
    RUNGS,
    InWorker,
    SyntheticTrainer,
    WorkerDies,
    journal_of,
    noted,
    open_study,
    policy_of,
    synthetic_plan,
)

if TYPE_CHECKING:
    from _pytest.mark.structures import ParameterSet

CAP_USD = 10.0
on_ray = (
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
)

Runner = Callable[[StudyPlan, SyntheticTrainer, Path], StudyResult]


def run_simulated(
    plan: StudyPlan,
    trainer: SyntheticTrainer,
    folder: Path,
    *,
    search: str = "halving",
    policy: SearchPolicy | None = None,
) -> StudyResult:
    def training(segment: Segment) -> TrialReport | None:
        try:
            return trainer(segment)
        except WorkerDies:
            return None

    def together(segments: tuple[Segment, ...]) -> tuple[TrialReport, ...] | None:
        try:
            return trainer.together(segments)
        except WorkerDies:
            return None

    clock = VirtualClock(1_000.0)
    study, ledger = open_study(plan, folder, cap_usd=CAP_USD, clock=clock, search=search, policy=policy)
    try:
        return simulate_study(study, training, clock, together=together)
    finally:
        ledger.close()


def run_on_ray(plan: StudyPlan, trainer: SyntheticTrainer, folder: Path, *, search: str = "halving") -> StudyResult:
    from mlcluster.tune.ray_study import run_study_on_ray

    study, ledger = open_study(plan, folder, cap_usd=CAP_USD, clock=time.time, search=search)
    try:
        worker = InWorker(trainer)
        result = run_study_on_ray(
            study, worker, folder=folder / "ray", progress=lambda _: None, together=worker.together
        )
    finally:
        ledger.close()
    replayed_study(plan, folder, search)  # however many workers reported in whatever order
    return result


def run_replayed(plan: StudyPlan, trainer: SyntheticTrainer, folder: Path, *, search: str = "halving") -> StudyResult:
    """A simulated study, as a policy has it that only reads the journal: it must decide the same, to the last event."""
    result = run_simulated(plan, trainer, folder, search=search)
    replayed = replayed_study(plan, folder, search)
    by_id = {trial.trial_id: trial for trial in replayed.trials if trial.trial_id in result.trials}
    trials = {
        name: replace(trial, state=str(by_id[name].state), rung=by_id[name].rung)
        for name, trial in result.trials.items()
    }
    return replace(result, trials=trials)


def replayed_study(plan: StudyPlan, folder: Path, search: str) -> Replay:
    """The study in the folder, played to a fresh policy, which has decided the same."""
    events = list(read_journal(folder / "study" / "journal.jsonl"))
    replay = replay_study(events, plan, policy_of(plan, search))
    assert replay.divergence is None
    assert replay.num_guessed == 0
    # Each segment was suggested once, before it started or stood in line, and decided on once.
    assert replay.num_equal == 2 * sum(event.kind == "start" for event in events)
    return replay


@dataclass(frozen=True)
class Finished:
    """A study that has ended, and the folder that it was run in."""

    result: StudyResult
    folder: Path

    @property
    def starts(self) -> list[tuple[Any, ...]]:
        """The segments that were started, in order: (trial id, rung, start units, stop units)."""
        return [
            (event["trial_id"], event["rung"], event["start_units"], event["stop_units"])
            for event in journal_of(self.folder, "start")
        ]

    @property
    def pieces(self) -> list[list[Any]]:
        """The pieces of several segments that trainers have finished, in order."""
        return noted(self.folder / "together.jsonl")

    @property
    def units_done(self) -> int:
        """Units that trainers really trained."""
        return sum(stop - start for _, start, stop in noted(self.folder / "executed.jsonl"))


def runners(*searches: str) -> list[ParameterSet]:
    """Each runner with each of these policies."""
    return [
        pytest.param((runner, search), id=f"{runner}-{search}", marks=on_ray if runner == "ray" else ())
        for search in searches
        for runner in ("simulator", "ray", "replay")
    ]


@pytest.fixture(scope="module", params=runners("halving", "promise"))
def run_study(request: pytest.FixtureRequest) -> Runner:
    runner, search = request.param
    if runner in ("simulator", "replay"):
        return partial(run_simulated if runner == "simulator" else run_replayed, search=search)
    request.getfixturevalue("ray_session")
    return partial(run_on_ray, search=search)


by_rank = pytest.mark.parametrize("run_study", runners("halving"), indirect=True)
"""For what only successive halving claims: how few go on."""


@pytest.fixture(scope="module")
def of_27_trials(run_study: Runner, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("healthy")
    return Finished(run_study(synthetic_plan(num_slots=2, max_trials=27), SyntheticTrainer(folder), folder), folder)


@pytest.fixture(scope="module")
def with_lost_workers(run_study: Runner, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Four trials on one worker: one loses it whenever it starts, and whichever is sent on loses it once."""
    folder = tmp_path_factory.mktemp("lost")
    deaths = (("t0001", 0, 99), *((f"t000{index}", 1, 1) for index in (0, 2, 3)))
    return Finished(run_study(synthetic_plan(max_trials=4), SyntheticTrainer(folder, deaths=deaths), folder), folder)


@pytest.fixture(scope="module")
def in_pieces(run_study: Runner, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """27 trials, up to four of them trained as one, on two workers."""
    folder = tmp_path_factory.mktemp("pieces")
    plan = synthetic_plan(num_slots=2, max_trials=27, max_together=4)
    return Finished(run_study(plan, SyntheticTrainer(folder), folder), folder)


@pytest.fixture(scope="module")
def with_a_lost_piece(run_study: Runner, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Four trials begin as one piece on one worker, which is lost once for the third."""
    folder = tmp_path_factory.mktemp("lost-piece")
    trainer = SyntheticTrainer(folder, deaths=(("t0002", 0, 1),))
    return Finished(run_study(synthetic_plan(max_trials=4, max_together=4), trainer, folder), folder)


def test_no_trial_starts_once_there_are_as_many_as_were_asked_for(of_27_trials: Finished) -> None:
    names = [f"t{index:04d}" for index in range(27)]
    assert list(of_27_trials.result.trials) == names
    assert {start[0] for start in of_27_trials.starts} == set(names)
    assert all(trial.value is not None for trial in of_27_trials.result.trials.values())


def test_each_trial_was_trained_to_the_units_of_its_rung_and_no_unit_twice(of_27_trials: Finished) -> None:
    trials = of_27_trials.result.trials.values()
    assert all(trial.curve[-1].units == RUNGS[trial.rung] for trial in trials)
    assert all([point.units for point in trial.curve] == list(range(1, RUNGS[trial.rung] + 1)) for trial in trials)
    assert of_27_trials.units_done == sum(RUNGS[trial.rung] for trial in trials)


@by_rank
def test_of_27_trials_most_stay_at_the_lowest_rung(of_27_trials: Finished) -> None:
    trials = of_27_trials.result.trials.values()
    # Successive halving asks for 27 + 9 x 2 + 3 x 6 + 1 x 18 = 81 units; deciding without waiting costs a little more.
    assert of_27_trials.units_done < 27 * MAX_UNITS / 4
    assert 1 <= sum(trial.rung == len(RUNGS) - 1 for trial in trials) <= 5


def test_money_is_booked_for_every_second_and_shared_among_trials(of_27_trials: Finished) -> None:
    result = of_27_trials.result
    assert 0 < result.usd <= CAP_USD
    assert result.usd == pytest.approx(result.seconds * synthetic_plan().budget.usd_per_second)
    assert 0 < sum(trial.usd for trial in result.trials.values()) <= result.usd
    assert result.lost_usd == 0.0


def test_a_lost_worker_costs_its_trial_only_what_came_after_its_checkpoint(with_lost_workers: Finished) -> None:
    lost = {event["trial_id"] for event in journal_of(with_lost_workers.folder, "lost")} - {"t0001"}
    assert lost
    for name in lost:
        assert [start[2:] for start in with_lost_workers.starts if start[0] == name][:3] == [(0, 1), (1, 3), (1, 3)]
        trial = with_lost_workers.result.trials[name]
        assert trial.units >= 3
        assert [point.units for point in trial.curve] == list(range(1, trial.units + 1))


def test_a_trial_whose_worker_is_lost_too_often_is_given_up_and_the_others_go_on(with_lost_workers: Finished) -> None:
    starts = [start for start in with_lost_workers.starts if start[0] == "t0001"]
    assert len(starts) == MAX_LOSSES
    given_up = with_lost_workers.result.trials["t0001"]
    assert (given_up.state, given_up.value) == ("failed", None)
    assert {trial.trial_id for trial in with_lost_workers.result.ranked()} == {"t0000", "t0002", "t0003"}


def test_trials_that_were_trained_as_one_have_each_its_own_lines_units_curve_and_dollars(in_pieces: Finished) -> None:
    assert max(len(piece) for piece in in_pieces.pieces) == 4
    trials = in_pieces.result.trials.values()
    assert len(trials) == 27
    for trial in trials:
        assert trial.units == RUNGS[trial.rung]
        assert [point.units for point in trial.curve] == list(range(1, trial.units + 1))
        assert trial.value == trial.curve[-1].value
        assert trial.usd > 0
    assert in_pieces.units_done == sum(RUNGS[trial.rung] for trial in trials)
    started, reported = (
        sorted(event["trial_id"] for event in journal_of(in_pieces.folder, kind)) for kind in ("start", "report")
    )
    assert started == reported


@by_rank
def test_no_more_work_is_done_in_pieces_than_one_at_a_time(in_pieces: Finished) -> None:
    assert in_pieces.units_done < 27 * MAX_UNITS / 4


def test_the_dollars_of_pieces_are_those_of_their_workers_and_no_more(in_pieces: Finished) -> None:
    result = in_pieces.result
    assert 0 < sum(trial.usd for trial in result.trials.values()) <= result.usd * (1 + 1e-9)
    assert result.usd <= CAP_USD


def test_a_lost_worker_loses_all_that_it_trained_and_each_goes_on_alone(with_a_lost_piece: Finished) -> None:
    names = {f"t{index:04d}" for index in range(4)}
    lost = list(journal_of(with_a_lost_piece.folder, "lost"))
    assert [event["trial_id"] for event in lost] == sorted(names)
    assert not with_a_lost_piece.pieces
    assert {trial.trial_id for trial in with_a_lost_piece.result.ranked()} == names
    pieces = [event["piece"] for event in journal_of(with_a_lost_piece.folder, "start")]
    assert pieces[:4] == ["t0000"] * 4
    assert sorted(pieces[4:8]) == sorted(names)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("search", ["halving", "promise"])
@pytest.mark.parametrize("max_together", [1, 4])
def test_with_one_worker_the_simulator_and_ray_take_the_same_decisions_in_the_same_order(
    max_together: int, search: str, tmp_path: Path
) -> None:
    plan = synthetic_plan(families=("toy", "other"), max_trials=15, seed=4, max_together=max_together)
    runs = []
    for name, run in (("simulator", run_simulated), ("ray", run_on_ray)):
        folder = tmp_path / name
        folder.mkdir()
        runs.append(Finished(run(plan, SyntheticTrainer(folder), folder, search=search), folder))
    simulated, real = runs
    assert real.starts == simulated.starts
    assert real.pieces == simulated.pieces
    assert bool(real.pieces) == (max_together > 1)
    assert {name: (t.rung, t.state, t.value, t.configuration) for name, t in real.result.trials.items()} == {
        name: (t.rung, t.state, t.value, t.configuration) for name, t in simulated.result.trials.items()
    }


@pytest.mark.parametrize("search", ["halving", "promise"])
def test_the_same_seed_and_the_same_reports_give_the_same_decisions(search: str, tmp_path: Path) -> None:
    starts = []
    for name, seed in (("one", 4), ("again", 4), ("other", 5)):
        folder = tmp_path / name
        folder.mkdir()
        plan = synthetic_plan(families=("toy", "other"), max_trials=15, num_slots=2, seed=seed)
        run_simulated(plan, SyntheticTrainer(folder), folder, search=search)
        starts.append(list(journal_of(folder, "start")))
    assert starts[0] == starts[1]
    assert starts[0] != starts[2]


@pytest.mark.parametrize("search", ["halving", "promise"])
@pytest.mark.parametrize("max_together", [1, 4])
@pytest.mark.parametrize("max_trials", [4, 11, 24])
def test_a_policy_that_has_read_the_journal_goes_on_as_the_one_that_wrote_it(
    search: str, max_together: int, max_trials: int, tmp_path: Path
) -> None:
    """Trials that lost their worker, once or for good, are in it."""
    plan = synthetic_plan(
        families=("toy", "other"), max_trials=max_trials, num_slots=2, seed=4, max_together=max_together
    )
    deaths = (("t0001", 0, 99), ("t0002", 1, 1), ("t0000", 0, 1))
    undisturbed, reader = policy_of(plan, search), policy_of(plan, search)
    run_simulated(plan, SyntheticTrainer(tmp_path, deaths=deaths), tmp_path, policy=undisturbed)
    study, ledger = open_study(plan, tmp_path, cap_usd=CAP_USD, clock=VirtualClock(9_000.0), policy=reader)
    study.finish()
    ledger.close()
    assert reader.trials == undisturbed.trials
    for _ in range(5):
        suggestion = undisturbed.suggest()
        assert suggestion is not None
        assert reader.suggest() == suggestion
        for policy in (undisturbed, reader):
            policy.accept(suggestion)
    for policy in (undisturbed, reader):
        policy.report(suggestion.trial_id, units=suggestion.stop_units, loss=0.4, seconds=1.0)
    assert reader.suggest() == undisturbed.suggest()
    assert reader.suggest(new_trials=False, room_seconds=5.0) == undisturbed.suggest(new_trials=False, room_seconds=5.0)
