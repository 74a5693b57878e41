"""Promotion: who goes on, in any order of reports."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcluster.search import (
    Action,
    AsyncHyperband,
    Candidate,
    Fidelity,
    HyperbandSettings,
    Observation,
    Suggestion,
    TrialState,
)
from mlcluster.spec import Configuration

RUNGS = (1, 3, 9, 27)


class Numbered:
    """Candidates that are told apart by their index."""

    def propose(self, index: int, observations: object) -> Candidate:
        return Candidate(family="toy", configuration={"index": index}, origin="test")


def policy(*, num_brackets: int = 1, max_units: int = 27, unit_seconds: float = 1.0) -> AsyncHyperband:
    def nominal_seconds(configuration: Configuration, units: int) -> float:
        return units * unit_seconds

    settings_ = HyperbandSettings(rungs_seconds=tuple(map(float, RUNGS)), num_brackets=num_brackets)
    fidelity = Fidelity(max_units=max_units, nominal_seconds=nominal_seconds)
    return AsyncHyperband(settings_, source=Numbered(), fidelities={"toy": fidelity})


@dataclass
class Run:
    """Workers that finish their segments in an order of their own."""

    search: AsyncHyperband
    max_trials: int
    running: dict[str, Suggestion] = field(default_factory=dict)
    promotions: list[tuple[str, int]] = field(default_factory=list)

    def start(self) -> bool:
        suggestion = self.search.suggest(new_trials=len(self.search.trials) < self.max_trials)
        assert self.search.suggest(new_trials=len(self.search.trials) < self.max_trials) == suggestion
        if suggestion is None:
            return False
        assert suggestion.trial_id not in self.running
        assert suggestion.start_units < suggestion.stop_units
        if suggestion.start_units > 0:
            self._check_promotion(suggestion)
        self.search.accept(suggestion)
        self.running[suggestion.trial_id] = suggestion
        return True

    def _check_promotion(self, suggestion: Suggestion) -> None:
        """The trial is among the best third at the rung that it leaves, and leaves it for the first time."""
        trial = self.search.trial(suggestion.trial_id)
        peers = sorted(
            other.losses[trial.rung]
            for other in self.search.trials
            if other.bracket == trial.bracket and trial.rung in other.losses
        )
        assert peers.index(trial.losses[trial.rung]) < len(peers) // 3
        assert (trial.trial_id, suggestion.rung) not in self.promotions
        self.promotions.append((trial.trial_id, suggestion.rung))

    def finish(self, position: int, loss: float) -> Action:
        trial_id = list(self.running)[position % len(self.running)]
        suggestion = self.running.pop(trial_id)
        return self.search.report(trial_id, units=suggestion.stop_units, loss=loss).action


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 7), st.floats(0.0, 1.0)), max_size=80),
    num_workers=st.integers(1, 4),
    num_brackets=st.integers(1, 3),
)
def test_only_the_best_of_a_rung_go_on_and_none_twice_in_any_order_of_reports(
    steps: list[tuple[int, float]], num_workers: int, num_brackets: int
) -> None:
    run = Run(policy(num_brackets=num_brackets), max_trials=30)
    for position, loss in steps:
        while len(run.running) < num_workers and run.start():
            pass
        if not run.running:
            break
        run.finish(position, loss)
    for trial in run.search.trials:
        assert sorted(trial.losses) == list(trial.losses), "a rung was skipped backwards"
        assert trial.units in (0, *RUNGS)


@settings(max_examples=50, deadline=None)
@given(losses=st.lists(st.floats(0.0, 1.0), min_size=3, max_size=30))
def test_the_best_trial_of_a_rung_goes_on(losses: list[float]) -> None:
    search = policy()
    for loss in losses:
        # Without promotions in between: all trials stand at the lowest rung.
        suggestion = search._new_trial()
        search.accept(suggestion)
        search.report(suggestion.trial_id, units=1, loss=loss)
    promoted = search.suggest()
    assert promoted is not None
    assert promoted.trial_id == f"t{losses.index(min(losses)):04d}"
    assert (promoted.rung, promoted.start_units, promoted.stop_units) == (1, 1, 3)
    assert promoted.reason == f"rank 1 of {len(losses)} at rung 0, {len(losses) // 3} go on"


def run_to_the_end(search: AsyncHyperband, losses: list[float]) -> Run:
    """One worker; trial i always has loss `losses[i]`."""
    run = Run(search, max_trials=len(losses))
    while run.start():
        (trial_id,) = run.running
        run.finish(0, losses[int(trial_id[1:])])
    return run


def test_of_27_trials_in_order_of_quality_9_3_and_1_go_on() -> None:
    """Worst first, each new trial is the best of its rung when it comes; best first, nobody overtakes."""
    best_first = run_to_the_end(policy(), [i / 27 for i in range(27)])
    reached = [sum(rung in trial.losses for trial in best_first.search.trials) for rung in range(4)]
    assert reached == [27, 9, 3, 1]
    assert best_first.search.trial("t0000").state is TrialState.COMPLETE


def test_the_higher_rung_is_served_first() -> None:
    run = run_to_the_end(policy(), [i / 9 for i in range(9)])
    assert run.promotions[:3] == [("t0000", 1), ("t0001", 1), ("t0002", 1)]
    assert run.promotions[3] == ("t0000", 2)


def test_a_late_developer_is_promoted_when_the_rung_has_room_for_it() -> None:
    search = policy()
    run = Run(search, max_trials=6)
    for loss in (0.3, 0.2, 0.9):
        run.start()
        run.finish(0, loss)
    run.start()
    assert run.promotions == [("t0001", 1)]
    run.finish(0, 0.1)
    for loss in (0.8, 0.7, 0.6):
        run.start()
        run.finish(0, loss)
    assert search.suggest(new_trials=False) is not None
    assert search.suggest(new_trials=False).trial_id == "t0000"  # type: ignore[union-attr]


def test_a_trial_that_was_cut_or_lost_goes_on_before_anything_else() -> None:
    search = policy()
    run = Run(search, max_trials=9)
    for loss in (0.1, 0.2, 0.3):
        run.start()
        run.finish(0, loss)
    run.start()
    decision = search.report("t0000", units=2, loss=0.05)
    assert (decision.action, decision.reason) == (Action.PAUSE, "cut at 2 of 3 units by its time limit")
    going_on = search.suggest()
    assert going_on is not None
    assert (going_on.trial_id, going_on.rung, going_on.start_units, going_on.stop_units) == ("t0000", 1, 2, 3)
    search.accept(going_on)
    search.lose("t0000", units=2)
    assert search.suggest() == going_on
    search.give_up("t0000")
    assert search.suggest(new_trials=False) is None


def test_a_short_training_stands_at_every_higher_rung_for_nothing() -> None:
    search = policy(max_units=3)
    run = run_to_the_end(search, [0.1, 0.2, 0.3])
    best = search.trial("t0000")
    assert best.losses == {0: 0.1, 1: 0.1, 2: 0.1, 3: 0.1}
    assert best.state is TrialState.COMPLETE
    assert run.promotions == [("t0000", 1)]


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_stops_the_trial_for_good(loss: float) -> None:
    search = policy()
    run = Run(search, max_trials=1)
    run.start()
    assert run.finish(0, loss) is Action.STOP
    assert search.trial("t0000").state is TrialState.FAILED
    assert search.suggest(new_trials=False) is None
    assert search.observations() == []


def test_the_older_trial_wins_a_tie() -> None:
    search = policy()
    run = Run(search, max_trials=3)
    for _ in range(3):
        run.start()
        run.finish(0, 0.5)
    promoted = search.suggest()
    assert promoted is not None
    assert promoted.trial_id == "t0000"


def test_brackets_take_turns_and_start_at_their_own_rung() -> None:
    search = policy(num_brackets=3)
    rungs = []
    for _ in range(27):
        suggestion = search._new_trial()
        search.accept(suggestion)
        assert suggestion.stop_units == RUNGS[suggestion.rung]
        rungs.append(suggestion.rung)
    assert [rungs.count(rung) for rung in range(3)] == [18, 6, 3]
    assert rungs[:9] == [0, 0, 1, 0, 0, 1, 0, 0, 2]


def test_sources_see_each_loss_at_its_rung() -> None:
    search = policy()
    run_to_the_end(search, [0.1, 0.2, 0.3])
    seen = search.observations()
    assert all(isinstance(observation, Observation) for observation in seen)
    assert [(observation.candidate.configuration["index"], observation.rung) for observation in seen] == [
        (0, 0), (0, 1), (1, 0), (2, 0),
    ]  # fmt: skip
