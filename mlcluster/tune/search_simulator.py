"""Runs a search policy on recorded curves, with workers and a bill on a virtual clock.

What is measured is what a search on rented machines would cost. All workers are paid from the first second to the last,
idle or busy. One decider answers all workers, one after the other, and the real seconds that it takes pass on the
virtual clock too: a policy that thinks long lets its workers wait, and pays for that.

Costs are in C, the cost of one whole training of an average random configuration of the task; names of such quantities
end in `_c`.
"""

from __future__ import annotations

import heapq
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from mlcluster.errors import SpecError
from mlcluster.spec import Configuration
from mlcluster.tune.benchmark import BenchmarkTask, Curve, Floats

Timer = Callable[[], float]
"""Seconds on any clock; the difference of two calls is how long a decision took."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Train this trial from one epoch to another. A trial that has not been seen before starts at 0 units."""

    trial_id: str
    configuration: Configuration
    start_units: int
    stop_units: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PieceOutcome:
    """What a piece came to, both of shape (stop_units - start_units,)."""

    losses: Floats
    """After each of its epochs; lower is better, infinite where training diverged."""
    elapsed_seconds: Floats
    """From the start of the piece to the end of each of its epochs."""


class AskTell(Protocol):
    """A search policy, as a worker that is free sees it."""

    def ask(self, *, room_seconds: float) -> Piece | None:
        """What a free worker should do, with `room_seconds` until the budget ends; None to leave it idle.

        An idle worker asks again after the next outcome. Where all are idle the run ends, and so does its bill.
        """

    def tell(self, trial_id: str, outcome: PieceOutcome) -> None:
        """A piece of that trial is done. Pieces that the end of the budget cuts are not told."""


Quality = Literal["q95", "q99", "q999"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSettings:
    """How many workers search, and for how much."""

    num_workers: int
    budget_c: float
    stop_at: Quality | None = None
    """Ends the run once a loss is as good as that: what it cost to get there is the same, and long runs are spared."""

    def __post_init__(self) -> None:
        if self.num_workers < 1:
            raise SpecError(f"num_workers = {self.num_workers} is none at all; give at least 1.")
        if not (self.budget_c > 0 and math.isfinite(self.budget_c)):
            raise SpecError(f"budget_c = {self.budget_c} buys nothing; give a number above 0.")


@dataclass(frozen=True, kw_only=True, slots=True)
class BestSoFar:
    """A new lowest loss of the run, and the bill at the moment it was reported."""

    billed_c: float
    loss: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchedTrial:
    """A configuration that was trained, and how far: to its last epoch that was told."""

    trial_id: str
    configuration: Configuration
    units: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchRun:
    """What one run came to."""

    cost_to_q95_c: float | None
    """Bill when any reported loss first was as good as the best 5 %; None where none was within the budget."""
    cost_to_q99_c: float | None
    cost_to_q999_c: float | None
    billed_c: float
    decision_seconds: float
    """In all, of asking and of telling."""
    median_decision_seconds: float
    """What a worker waits for between two pieces: its outcome is told, then its next piece asked for."""
    num_decisions: int
    trials: tuple[SearchedTrial, ...]
    trace: tuple[BestSoFar, ...]


def simulate_search(
    policy: AskTell, task: BenchmarkTask, settings: SearchSettings, *, timer: Timer = time.perf_counter
) -> SearchRun:
    """Lets `policy` search until the budget is spent or it leaves all workers idle.

    A piece that would run past the end of the budget is cut there: its epochs until then count, and are paid.
    """
    return _Run(policy, task, settings, _Decider(timer)).to_its_end()


def free_decisions() -> float:
    """A timer for which every decision takes no time, so that runs can be repeated to the last digit."""
    return 0.0


class _Decider:
    """Answers one question at a time; `free_at` is in virtual seconds."""

    def __init__(self, timer: Timer) -> None:
        self._timer = timer
        self._told_seconds = 0.0
        self.free_at = 0.0
        self.seconds = 0.0
        self.decisions: list[float] = []

    def tell(self, policy: AskTell, trial_id: str, outcome: PieceOutcome, *, now: float) -> None:
        started = self._timer()
        policy.tell(trial_id, outcome)
        seconds = self._timer() - started
        self._told_seconds += seconds
        self._pass(seconds, now)

    def ask(self, policy: AskTell, *, now: float, end: float) -> Piece | None:
        room = end - max(now, self.free_at)
        started = self._timer()
        piece = policy.ask(room_seconds=room)
        seconds = self._timer() - started
        self.decisions.append(self._told_seconds + seconds)
        self._told_seconds = 0.0
        self._pass(seconds, now)
        return piece

    def _pass(self, seconds: float, now: float) -> None:
        self.seconds += seconds
        self.free_at = max(now, self.free_at) + seconds


@dataclass(kw_only=True, slots=True)
class _Training:
    configuration: Configuration
    curve: Curve
    units: int = 0
    is_running: bool = False


@dataclass(order=True, frozen=True, slots=True)
class _Completion:
    at: float
    sequence: int
    piece: Piece
    outcome: PieceOutcome


class _Run:
    def __init__(self, policy: AskTell, task: BenchmarkTask, settings: SearchSettings, decider: _Decider) -> None:
        self._policy = policy
        self._task = task
        self._settings = settings
        self._decider = decider
        self._end = settings.budget_c * task.mean_cost_seconds / settings.num_workers
        self._now = 0.0
        self._num_started = 0
        self._queue: list[_Completion] = []
        self._trainings: dict[str, _Training] = {}
        self._reported_at: list[Floats] = []
        self._reported_losses: list[Floats] = []

    def to_its_end(self) -> SearchRun:
        self._fill_workers()
        while self._queue:
            done = heapq.heappop(self._queue)
            self._now = done.at
            if done.at >= self._end or self._has_arrived(done.outcome):
                break
            self._finish(done)
            self._fill_workers()
        return self._record()

    def _fill_workers(self) -> None:
        while len(self._queue) < self._settings.num_workers and self._free_at < self._end:
            piece = self._decider.ask(self._policy, now=self._now, end=self._end)
            if piece is None:
                return
            self._start(piece)

    @property
    def _free_at(self) -> float:
        """When a worker that is free now can be answered."""
        return max(self._now, self._decider.free_at)

    def _start(self, piece: Piece) -> None:
        training = self._trainings.get(piece.trial_id)
        if training is None:
            curve = self._task.curve(piece.configuration)
            training = self._trainings[piece.trial_id] = _Training(configuration=piece.configuration, curve=curve)
        assert not training.is_running, f"{piece.trial_id} is being trained already"
        assert piece.start_units <= training.units, f"{piece} starts above the {training.units} units that it has"
        assert 0 <= piece.start_units < piece.stop_units <= self._task.max_epochs, f"{piece} cannot be trained"
        training.is_running = True
        outcome = _outcome(piece, training.curve)
        at = self._free_at + outcome.elapsed_seconds
        self._reported_at.append(at)
        self._reported_losses.append(outcome.losses)
        heapq.heappush(self._queue, _Completion(float(at[-1]), self._num_started, piece, outcome))
        self._num_started += 1

    def _finish(self, done: _Completion) -> None:
        training = self._trainings[done.piece.trial_id]
        training.is_running = False
        training.units = max(training.units, done.piece.stop_units)
        self._decider.tell(self._policy, done.piece.trial_id, done.outcome, now=done.at)

    def _has_arrived(self, outcome: PieceOutcome) -> bool:
        stop_at = self._settings.stop_at
        return stop_at is not None and bool(outcome.losses.min() <= getattr(self._task.thresholds, stop_at))

    def _record(self) -> SearchRun:
        trace = self._trace()
        thresholds = self._task.thresholds
        decisions = self._decider.decisions
        return SearchRun(
            cost_to_q95_c=_cost_to(thresholds.q95, trace),
            cost_to_q99_c=_cost_to(thresholds.q99, trace),
            cost_to_q999_c=_cost_to(thresholds.q999, trace),
            billed_c=self._billed_c(self._free_at),
            decision_seconds=self._decider.seconds,
            median_decision_seconds=statistics.median(decisions),
            num_decisions=len(decisions),
            trials=tuple(
                SearchedTrial(trial_id=trial_id, configuration=training.configuration, units=training.units)
                for trial_id, training in self._trainings.items()
            ),
            trace=trace,
        )

    def _trace(self) -> tuple[BestSoFar, ...]:
        if not self._reported_at:
            return ()
        at, losses = np.concatenate(self._reported_at), np.concatenate(self._reported_losses)
        order = np.argsort(at, kind="stable")
        at, losses = at[order], losses[order]
        best_before = np.minimum.accumulate(np.concatenate(([np.inf], losses[:-1])))
        improves = (losses < best_before) & (at <= self._end)
        return tuple(
            BestSoFar(billed_c=self._billed_c(seconds), loss=loss)
            for seconds, loss in zip(at[improves].tolist(), losses[improves].tolist(), strict=True)
        )

    def _billed_c(self, seconds: float) -> float:
        """What all workers have cost until then; never more than the budget, to the last bit."""
        billed = self._settings.num_workers * seconds / self._task.mean_cost_seconds
        return min(billed, self._settings.budget_c)


def _outcome(piece: Piece, curve: Curve) -> PieceOutcome:
    before = curve.seconds[piece.start_units - 1] if piece.start_units else 0.0
    new = slice(piece.start_units, piece.stop_units)
    return PieceOutcome(losses=curve.losses[new], elapsed_seconds=curve.seconds[new] - before)


def _cost_to(threshold: float, trace: tuple[BestSoFar, ...]) -> float | None:
    return next((point.billed_c for point in trace if point.loss <= threshold), None)
