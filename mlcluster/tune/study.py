"""A study: the search policy, the money and the memory in one place, for any runner to drive.

A runner asks for the next segment whenever a worker is free, and tells what came of it. All decisions are made here, so
that the simulator and Ray Tune cannot differ in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlcluster.cost import CostModel, Duration, LeaseTerms, Ledger, NodeLease
from mlcluster.search import (
    Action,
    AsyncHyperband,
    CandidateSource,
    Decision,
    Suggestion,
    TrialRecord,
    TrialState,
)
from mlcluster.train import CheckpointFolder, CurvePoint, Segment, TrialReport, as_loss
from mlcluster.tune.events import report_event, report_of, start_event, suggestion_of
from mlcluster.tune.journal import Event, Journal
from mlcluster.tune.plan import SEARCH_SHARE, StudyPlan
from mlcluster.tune.result import Ending, Improvement, StudyResult, TrialSummary

ACCOUNT = "tune"
WORKER_START_SECONDS = 15.0
"""Paid for beside each segment: its worker may have to be started first, a process and its imports."""
HANDOVER_SECONDS = 2.5
"""The same at least, when little is left: handing it to a worker that is up."""
RELEASE_SECONDS = 3.0
"""Paid for behind the last segment: ending the workers."""
SEGMENT_OVERHEAD_SECONDS = 0.1
"""Nominal price of a segment beside its training: reading and writing checkpoints."""
MAX_LOSSES = 2
"""A trial whose worker was lost that often is given up."""
PATIENCE_SECONDS, PATIENCE_SHARE = 20.0, 0.2
"""A segment may take this long, or that share of the room that is left, even where its worst case is shorter."""
MAX_FIRST_FAILURES = 3
"""When that many trials have raised and none has reported, the fault is not theirs."""
USEFUL_SHARE, USEFUL_SECONDS = 1.2, 2.0
"""A segment starts with less than its worst case when this multiple of its expected time, and this long, still fit."""


@dataclass(kw_only=True, slots=True)
class _TrialBook:
    """What the study keeps about a trial beside the policy's record."""

    seconds: float = 0.0
    expected_seconds: float = 0.0
    num_losses: int = 0
    curve: list[CurvePoint] = field(default_factory=list)
    latest: TrialReport | None = None
    best: TrialReport | None = None
    """The report whose checkpoint would ship: more training may make a model worse."""

    @property
    def checkpoints(self) -> set[str]:
        return {report.checkpoint for report in (self.latest, self.best) if report is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Running:
    segment: Segment
    nominal_seconds: float
    started_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Allowance:
    """How long a segment may take once it has begun, and until when its worker is paid for in any case."""

    limit_seconds: float
    deadline: float


class Study:
    """See the module. `clock` gives seconds since the epoch; the simulator's is virtual."""

    def __init__(
        self,
        plan: StudyPlan,
        *,
        folder: Path,
        ledger: Ledger,
        source: CandidateSource,
        clock: Callable[[], float],
    ) -> None:
        """Begins the study, or goes on where the journal in `folder` ends."""
        self.plan = plan
        self._clock = clock
        self._ledger = ledger
        self._policy = AsyncHyperband(plan.settings, source=source, fidelities=dict(plan.fidelities))
        self._cost_model = CostModel()
        self._books: dict[str, _TrialBook] = {}
        self._running: dict[str, _Running] = {}
        self._improvements: list[Improvement] = []
        self._errors: list[str] = []
        self._checkpoints = CheckpointFolder(folder / "checkpoints")
        self._journal = Journal(folder / "journal.jsonl")
        self.is_resumed = bool(self._journal.past)
        self._replay()
        now = clock()
        self._journal.append(Event(kind="begin", at=now, data={"study_id": plan.study_id, "seed": plan.seed}))
        self._seconds_before = ledger.seconds_on(ACCOUNT)
        self._spent_before_usd = ledger.spent_on(ACCOUNT)
        terms = LeaseTerms(
            account=ACCOUNT,
            usd_per_second=plan.budget.usd_per_second,
            not_after=now + plan.budget.seconds - self._seconds_before,
        )
        self._started_at = now
        self._lease = NodeLease(ledger, terms, started_at=now)
        self._no_new_trials_after = now + SEARCH_SHARE * max(0.0, self._lease.latest_end() - now)
        self._put_back_interrupted(now)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def trials(self) -> tuple[TrialRecord, ...]:
        return tuple(self._policy.trials)

    @property
    def best(self) -> Improvement | None:
        return self._improvements[-1] if self._improvements else None

    @property
    def seconds_left(self) -> float:
        """Until the last moment that money and minutes allow."""
        return max(0.0, self._lease.latest_end() - self._clock())

    @property
    def usd_so_far(self) -> float:
        """Of this study: what earlier drivers spent, and this one's nodes until now."""
        return self._spent_before_usd + (self._clock() - self._started_at) * self.plan.budget.usd_per_second

    @property
    def is_overdue(self) -> bool:
        """Whether workers are held for longer than was paid for, as when one takes minutes to start."""
        return bool(self._running) and self._clock() > self._lease.paid_until

    @property
    def failure(self) -> str | None:
        """The error with which the first trials all failed, where not one has reported; the study ends with it."""
        is_hopeless = len(self._errors) >= MAX_FIRST_FAILURES and not self._improvements
        return self._errors[-1] if is_hopeless else None

    def next_segment(self) -> Segment | None:
        """What a free worker should train now, with its worst case paid for; None where there is nothing."""
        if self.failure is not None:
            return None
        now = self._clock()
        suggestion = self._policy.suggest(new_trials=self._may_start_trials(now))
        if suggestion is None:
            return None
        nominal_seconds = self._nominal_seconds(suggestion)
        duration = self._cost_model.predict(suggestion.candidate.family, nominal_seconds)
        allowance = self._allow(duration, now)
        if allowance is None:
            return None
        segment = self._segment(suggestion, allowance)
        self._accept(suggestion, duration.expected_seconds)
        self._running[segment.trial_id] = _Running(segment=segment, nominal_seconds=nominal_seconds, started_at=now)
        self._journal.append(
            start_event(
                suggestion,
                at=now,
                limit_seconds=allowance.limit_seconds,
                expected_seconds=duration.expected_seconds,
            )
        )
        return segment

    def report(self, report: TrialReport) -> Decision:
        """Takes what a segment came to, and says what becomes of its trial."""
        now = self._clock()
        usd, seconds = self.usd_so_far, self._seconds_before + now - self._started_at
        self._journal.append(report_event(report, at=now, usd_so_far=usd, elapsed_seconds=seconds))
        running = self._running[report.trial_id]
        decision = self._apply_report(report, usd, seconds)
        self._book(report.trial_id, now - running.started_at, now)
        return decision

    def lose(self, trial_id: str, reason: str) -> None:
        """The worker of a running trial is gone; the trial goes back to its last checkpoint, or is given up."""
        now = self._clock()
        self._journal.append(Event(kind="lost", at=now, data={"trial_id": trial_id, "reason": reason}))
        running = self._running[trial_id]
        self._apply_loss(trial_id)
        self._book(trial_id, now - running.started_at, now)

    def fail(self, trial_id: str, error: str) -> None:
        """The training of a trial has raised; it is given up, for it would raise again."""
        now = self._clock()
        self._journal.append(Event(kind="failed", at=now, data={"trial_id": trial_id, "error": error}))
        running = self._running[trial_id]
        self._apply_failure(trial_id, error)
        self._book(trial_id, now - running.started_at, now)

    def end_overdue(self) -> None:
        """Counts as lost what still runs once its workers were ended from outside."""
        for trial_id in list(self._running):
            self.lose(trial_id, "its worker was ended at the last moment that was paid for")

    def finish(self) -> StudyResult:
        """Releases the workers, settles the bill and gives what was found. Nothing may be running."""
        assert not self._running, "a study is finished once nothing runs any more"
        now = self._clock()
        self._lease.release(now=now)
        ending = Ending.DONE if self._has_done_its_least() else Ending.BUDGET
        self._journal.append(Event(kind="end", at=now, data={"ending": ending}))
        self._journal.close()
        shares = self._ledger.shares_of(ACCOUNT)
        return StudyResult(
            study_id=self.plan.study_id,
            metric=self.plan.metric,
            ending=ending,
            trials={
                trial.trial_id: self._summary(trial, usd=shares.get(trial.trial_id, 0.0))
                for trial in self._policy.trials
            },
            improvements=tuple(self._improvements),
            usd=self._ledger.spent_on(ACCOUNT),
            lost_usd=self._ledger.lost_usd,
            seconds=self._ledger.seconds_on(ACCOUNT),
            failure=self.failure,
        )

    def _accept(self, suggestion: Suggestion, expected_seconds: float) -> None:
        self._policy.accept(suggestion)
        self._books.setdefault(suggestion.trial_id, _TrialBook()).expected_seconds += expected_seconds

    def _has_done_its_least(self) -> bool:
        """Whether each family was tried, and some trial trained to the top rung, before the budget ended it."""
        tried = {trial.candidate.family for trial in self._policy.trials if trial.losses}
        return tried == set(self.plan.spaces) and any(trial.state is TrialState.COMPLETE for trial in self.trials)

    def _may_start_trials(self, now: float) -> bool:
        limit = self.plan.budget.max_trials
        return now < self._no_new_trials_after and (limit is None or len(self._policy.trials) < limit)

    def _allow(self, duration: Duration, now: float) -> _Allowance | None:
        """The time that a segment gets, all paid for; None where it would be too little to be of use."""
        room = self._lease.latest_end() - now - RELEASE_SECONDS
        handover_seconds = min(WORKER_START_SECONDS, max(HANDOVER_SECONDS, room / 3))
        # While there is much room, a limit costs nothing: a worker that is held up need not be ended for it.
        patience_seconds = min(PATIENCE_SECONDS, PATIENCE_SHARE * room)
        limit_seconds = min(max(duration.worst_case_seconds, patience_seconds), room - handover_seconds)
        useful_seconds = max(USEFUL_SECONDS, USEFUL_SHARE * duration.expected_seconds)
        if limit_seconds < min(duration.worst_case_seconds, useful_seconds):
            return None
        # A hair less than the room, which is a quotient and may be off by a rounding.
        deadline = now + handover_seconds + limit_seconds * (1 - 1e-9)
        if not self._lease.try_extend(deadline + RELEASE_SECONDS * (1 - 1e-9), now=now):
            return None
        return _Allowance(limit_seconds=limit_seconds, deadline=deadline)

    def _nominal_seconds(self, suggestion: Suggestion) -> float:
        candidate = suggestion.candidate
        cost = self.plan.fidelities[candidate.family].nominal_seconds
        whole = cost(candidate.configuration, suggestion.stop_units)
        if candidate.family in self.plan.grown_anew:
            return SEGMENT_OVERHEAD_SECONDS + whole
        done = cost(candidate.configuration, suggestion.start_units) if suggestion.start_units else 0.0
        return SEGMENT_OVERHEAD_SECONDS + whole - done

    def _segment(self, suggestion: Suggestion, allowance: _Allowance) -> Segment:
        return Segment(
            trial_id=suggestion.trial_id,
            family=suggestion.candidate.family,
            configuration=suggestion.candidate.configuration,
            seed=self._trial_seed(suggestion.trial_id),
            start_units=suggestion.start_units,
            stop_units=suggestion.stop_units,
            limit_seconds=allowance.limit_seconds,
            deadline=allowance.deadline,
        )

    def _trial_seed(self, trial_id: str) -> int:
        # scikit-learn takes seeds of 32 bits.
        return (self.plan.seed * 100_003 + int(trial_id[1:])) % 2**32

    def _book(self, trial_id: str, seconds: float, now: float) -> None:
        self._lease.share(trial_id, seconds=seconds, slot_share=1 / self.plan.budget.num_slots, now=now)

    def _apply_report(self, report: TrialReport, usd: float, seconds: float) -> Decision:
        running = self._running.pop(report.trial_id)
        self._observe_cost(running, report)
        decision = self._policy.report(report.trial_id, units=report.units, loss=report.loss)
        book = self._books.setdefault(report.trial_id, _TrialBook())
        book.curve += [replace(point, seconds=point.seconds + book.seconds) for point in report.curve]
        book.seconds += report.seconds
        self._keep_checkpoints(book, report)
        if decision.action is not Action.STOP:
            self._note_improvement(report, usd, seconds)
        return decision

    def _keep_checkpoints(self, book: _TrialBook, report: TrialReport) -> None:
        """Only the latest, to go on from, and the best, to ship."""
        before = book.checkpoints
        book.latest = report
        if math.isfinite(report.loss) and (book.best is None or report.loss < book.best.loss):
            book.best = report
        for name in before - book.checkpoints:
            self._checkpoints.delete(name)

    def _observe_cost(self, running: _Running, report: TrialReport) -> None:
        segment = running.segment
        asked, trained = segment.stop_units - segment.start_units, report.units - segment.start_units
        if asked > 0:
            training_seconds = running.nominal_seconds - SEGMENT_OVERHEAD_SECONDS
            self._cost_model.observe(
                segment.family,
                nominal_seconds=SEGMENT_OVERHEAD_SECONDS + training_seconds * trained / asked,
                actual_seconds=report.seconds,
            )

    def _apply_loss(self, trial_id: str) -> None:
        running = self._running.pop(trial_id)
        book = self._books.setdefault(trial_id, _TrialBook())
        book.num_losses += 1
        self._policy.lose(trial_id, units=running.segment.start_units)
        if book.num_losses >= MAX_LOSSES:
            self._policy.give_up(trial_id)

    def _apply_failure(self, trial_id: str, error: str) -> None:
        self._running.pop(trial_id)
        self._books.setdefault(trial_id, _TrialBook())
        self._errors.append(error)
        self._policy.give_up(trial_id)

    def _note_improvement(self, report: TrialReport, usd: float, seconds: float) -> None:
        value = report.curve[-1].value
        if self.best is None or as_loss(self.plan.metric, value) < as_loss(self.plan.metric, self.best.value):
            self._improvements.append(Improvement(trial_id=report.trial_id, value=value, usd=usd, seconds=seconds))

    def _summary(self, trial: TrialRecord, *, usd: float) -> TrialSummary:
        book = self._books.get(trial.trial_id, _TrialBook())
        return TrialSummary(
            trial_id=trial.trial_id,
            family=trial.candidate.family,
            configuration=trial.candidate.configuration,
            origin=trial.candidate.origin,
            state=trial.state,
            units=book.best.units if book.best else 0,
            rung=trial.rung,
            value=book.best.curve[-1].value if book.best else None,
            seconds=book.seconds,
            usd=usd,
            forecast_usd=book.expected_seconds * self.plan.budget.usd_per_second / self.plan.budget.num_slots,
            curve=tuple(book.curve),
            checkpoint=book.best.checkpoint if book.best else None,
            seed=self._trial_seed(trial.trial_id),
        )

    def _replay(self) -> None:
        """Puts the journal of earlier drivers through the policy; their money is in the ledger already."""
        for event in self._journal.past:
            match event.kind:
                case "start":
                    self._replay_start(event)
                case "report":
                    self._apply_report(report_of(event), float(event.data["usd_so_far"]), float(event.data["elapsed"]))
                case "lost":
                    self._apply_loss(str(event.data["trial_id"]))
                case "failed":
                    self._apply_failure(str(event.data["trial_id"]), str(event.data["error"]))
                case "interrupted":
                    running = self._running.pop(str(event.data["trial_id"]))
                    self._policy.lose(running.segment.trial_id, units=running.segment.start_units)
                case "begin" | "end":
                    continue

    def _replay_start(self, event: Event) -> None:
        suggestion = suggestion_of(event)
        self._accept(suggestion, float(event.data["expected_seconds"]))
        self._running[suggestion.trial_id] = _Running(
            segment=self._segment(suggestion, _Allowance(limit_seconds=event.data["limit_seconds"], deadline=event.at)),
            nominal_seconds=self._nominal_seconds(suggestion),
            started_at=event.at,
        )

    def _put_back_interrupted(self, now: float) -> None:
        """Trials that ran when the last driver ended stand at their last checkpoints; it was no fault of theirs.

        What they had cost since is booked as lost by the ledger, with the rest of the nodes' bill.
        """
        for trial_id, running in list(self._running.items()):
            self._journal.append(Event(kind="interrupted", at=now, data={"trial_id": trial_id}))
            self._running.pop(trial_id)
            self._policy.lose(trial_id, units=running.segment.start_units)
