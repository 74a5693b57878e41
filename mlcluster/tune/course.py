"""How a study stands: its policy, cost model, lines and books, moved on by what happens to its trials.

It is moved on in the same steps whether something happens now or stands in the journal of an earlier driver, so that
the two cannot part ways. Money is not here: what was spent is in the ledger, and no step back spends it again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlcluster.cost import CostModel, Duration
from mlcluster.search import Action, Decision, SearchPolicy, Suggestion, TrialRecord, TrialState
from mlcluster.spec import Device
from mlcluster.train import Segment, TrialReport
from mlcluster.tune.lines import Lines, Placed
from mlcluster.tune.piece import Piece, done_seconds, nominal_seconds, point_of, trial_seed
from mlcluster.tune.plan import StudyPlan
from mlcluster.tune.purse import Allowance
from mlcluster.tune.trial_books import Spent, TrialBooks

MAX_LOSSES = 2
"""A trial whose worker was lost that often is given up."""
MAX_FIRST_FAILURES = 3
"""When that many trials have raised and none has reported, the fault is not theirs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A segment that is out, in its piece."""

    segment: Segment
    piece: Piece


class Course:
    """See the module. `running` is by trial, in the order in which they started."""

    def __init__(self, plan: StudyPlan, policy: SearchPolicy) -> None:
        self.plan = plan
        self.policy = policy
        self.cost_model = CostModel()
        self.lines = Lines(plan, self.cost_model)
        self.books = TrialBooks(plan.metric)
        self.running: dict[str, Running] = {}
        self._num_members: dict[Piece, int] = {}
        """Of each piece that is out: how many of its trials still run."""
        self._num_pieces: Counter[Device] = Counter()
        self._errors: list[str] = []

    @property
    def trials(self) -> Sequence[TrialRecord]:
        return self.policy.trials

    @property
    def num_pieces(self) -> int:
        """Those that are out, each with a worker."""
        return len(self._num_members)

    @property
    def failure(self) -> str | None:
        """The error with which the first trials all failed, where not one has reported."""
        is_hopeless = len(self._errors) >= MAX_FIRST_FAILURES and not self.books.improvements
        return self._errors[-1] if is_hopeless else None

    @property
    def has_done_its_least(self) -> bool:
        """Whether each family was tried, and some trial trained to the top rung."""
        tried = {trial.candidate.family for trial in self.trials if trial.losses}
        return tried == set(self.plan.spaces) and any(trial.state is TrialState.COMPLETE for trial in self.trials)

    def num_running_on(self, worker: Device) -> int:
        """Pieces of a kind of worker."""
        return self._num_pieces[worker]

    def busy_seconds(self, now: float) -> dict[Device, list[float]]:
        """How long each running piece is expected to go on, by kind of worker."""
        busy: dict[Device, list[float]] = {kind.name: [] for kind in self.plan.budget.kinds}
        for piece in self._num_members:
            busy[piece.worker].append(max(0.0, piece.started_at + piece.expected_seconds - now))
        return busy

    def predict(self, suggestions: Sequence[Suggestion], worker: Device) -> Duration:
        """How long a piece of these takes on a kind of worker."""
        kind_of_work = (suggestions[0].candidate.family, worker)
        nominal = nominal_seconds(self.plan, suggestions, worker)
        return self.cost_model.predict(kind_of_work, nominal, point_of(self.plan, suggestions))

    def stand_in_line(self, placed: Placed) -> None:
        """A suggestion is accepted, and waits for a worker of its kind."""
        self.policy.accept(placed.suggestion)
        self.lines.stand(placed)

    def leave_line(self, trial_id: str, units: int) -> None:
        """The trial stands again where it stood before, at `units`."""
        self.lines.leave(trial_id)
        self.policy.lose(trial_id, units=units)

    def accept(self, suggestion: Suggestion) -> None:
        """A suggestion will start now, from its line or straight from the policy."""
        if not self.lines.leave(suggestion.trial_id):
            self.policy.accept(suggestion)

    def start(self, piece: Piece, suggestion: Suggestion, allowance: Allowance, expected_seconds: float) -> None:
        """A suggestion that was accepted runs from now on, in a piece."""
        piece.suggestions.append(suggestion)
        piece.expected_seconds += expected_seconds
        expected_usd = expected_seconds * self.plan.budget.slot_usd_per_second(piece.worker)
        self.books.expect(suggestion.trial_id, expected_usd)
        segment = self._segment(suggestion, allowance, piece.worker)
        self.running[suggestion.trial_id] = Running(segment=segment, piece=piece)
        if piece not in self._num_members:
            self._num_pieces[piece.worker] += 1
        self._num_members[piece] = self._num_members.get(piece, 0) + 1

    def report(self, report: TrialReport, spent: Spent) -> Decision:
        """A segment has ended; `spent` is the study's until then."""
        piece = self._end(report.trial_id).piece
        piece.reports[report.trial_id] = report
        if piece.is_done:
            self._observe_cost(piece)
        over_limit = self.plan.limits.violation(report.measured)
        decision = self._decide(report, over_limit, self._weight_of(piece.worker))
        self.books.keep(report, over_limit)
        if decision.action is not Action.STOP:
            self.books.note_improvement(report, spent)
        piece.decisions[report.trial_id] = decision
        return decision

    def _decide(self, report: TrialReport, over_limit: str | None, weight: float) -> Decision:
        """The policy's decision. Where a limit is broken, it is told of a training that came to nothing.

        Were it told nothing, it would go on to believe in configurations of which none can ever win.
        """
        loss, seconds = math.inf if over_limit is not None else report.loss, report.seconds * weight
        decision = self.policy.report(report.trial_id, units=report.units, loss=loss, seconds=seconds)
        if over_limit is None:
            return decision
        self.policy.give_up(report.trial_id)
        return Decision(action=Action.STOP, reason=over_limit)

    def lose(self, trial_id: str) -> None:
        """The worker of a running trial is gone."""
        running = self._end(trial_id)
        units, num_losses = running.segment.start_units, self.books.note_loss(trial_id)
        self.policy.lose(trial_id, units=units)
        if num_losses >= MAX_LOSSES:
            self.policy.give_up(trial_id)
            decision = Decision(action=Action.STOP, reason=f"its worker was lost {num_losses} times; given up")
        else:
            reason = f"its worker was lost; back to its checkpoint at {units} units"
            decision = Decision(action=Action.PAUSE, reason=reason)
        running.piece.decisions[trial_id] = decision

    def fail(self, trial_id: str, error: str) -> None:
        """The training of a running trial has raised."""
        piece = self._end(trial_id).piece
        self._errors.append(error)
        self.policy.give_up(trial_id)
        piece.decisions[trial_id] = Decision(action=Action.STOP, reason="its training raised, and would raise again")

    def interrupt(self, trial_id: str) -> None:
        """The driver of a running trial has ended: it stands at its last checkpoint, for it was no fault of its own."""
        running = self._end(trial_id)
        self.policy.lose(trial_id, units=running.segment.start_units)

    def started(self) -> Iterable[TrialRecord]:
        """Trials that have ever run; others have only stood in line."""
        return (trial for trial in self.trials if trial.trial_id in self.books)

    def _end(self, trial_id: str) -> Running:
        """It runs no more, nor does its piece where it was the last of it."""
        running = self.running.pop(trial_id)
        self._num_members[running.piece] -= 1
        if not self._num_members[running.piece]:
            del self._num_members[running.piece]
            self._num_pieces[running.piece.worker] -= 1
        return running

    def _segment(self, suggestion: Suggestion, allowance: Allowance, worker: Device) -> Segment:
        return Segment(
            trial_id=suggestion.trial_id,
            family=suggestion.candidate.family,
            configuration=suggestion.candidate.configuration,
            seed=trial_seed(self.plan, suggestion.trial_id),
            start_units=suggestion.start_units,
            stop_units=suggestion.stop_units,
            limit_seconds=allowance.limit_seconds,
            deadline=allowance.deadline,
            device=worker,
        )

    def _weight_of(self, worker: Device) -> float:
        """What a second of a worker costs in seconds of the first kind: the policy counts dollars so."""
        budget = self.plan.budget
        return budget.slot_usd_per_second(worker) / budget.kinds[0].usd_per_second

    def _observe_cost(self, piece: Piece) -> None:
        """Once a piece: its members share one worker, so that their seconds say the same."""
        self.cost_model.observe(
            (piece.suggestions[0].candidate.family, piece.worker),
            nominal_seconds=done_seconds(self.plan, piece),
            actual_seconds=sum(report.seconds for report in piece.reports.values()),
            point=point_of(self.plan, piece.suggestions),
        )
