"""A study: the search policy, the money and the memory in one place, for any runner to drive.

A runner asks for the next segment whenever a worker is free, and tells what came of it. All decisions are made here, so
that the simulator and Ray Tune cannot differ in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlcluster.cost import CostModel, Duration, LeaseTerms, Ledger, NodeLease
from mlcluster.search import (
    Action,
    Decision,
    SearchPolicy,
    Suggestion,
    TrialRecord,
    TrialState,
)
from mlcluster.spec import Device
from mlcluster.train import CheckpointFolder, CurvePoint, Segment, TrialReport, as_loss
from mlcluster.tune.events import (
    begin_event,
    decision_event,
    line_event,
    piece_of,
    placement_of,
    report_event,
    report_of,
    start_event,
    suggestion_of,
)
from mlcluster.tune.journal import Event, Journal
from mlcluster.tune.lines import Lines, Placed
from mlcluster.tune.piece import Piece, done_seconds, is_worth_joining, nominal_seconds, point_of, work_shares
from mlcluster.tune.placement import Placement
from mlcluster.tune.plan import SEARCH_SHARE, StudyPlan
from mlcluster.tune.result import Ending, Improvement, StudyResult, TrialSummary

ACCOUNT = "tune"
WORKER_START_SECONDS = 15.0
"""Paid for beside each segment: its worker may have to be started first, a process and its imports."""
HANDOVER_SECONDS = 2.5
"""The same at least, when little is left: handing it to a worker that is up."""
RELEASE_SECONDS = 3.0
"""Paid for behind the last segment: ending the workers."""
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
    expected_usd: float = 0.0
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
    piece: Piece


@dataclass(frozen=True, kw_only=True, slots=True)
class _Allowance:
    """How long a piece may take once it has begun, and until when its worker is paid for in any case."""

    limit_seconds: float
    deadline: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Offer:
    """A piece that could start now: it is paid for, but nobody was told."""

    suggestions: tuple[Suggestion, ...]
    placement: Placement
    duration: Duration
    allowance: _Allowance


class Study:
    """See the module. `clock` gives seconds since the epoch; the simulator's is virtual."""

    def __init__(
        self,
        plan: StudyPlan,
        *,
        folder: Path,
        ledger: Ledger,
        policy: SearchPolicy,
        clock: Callable[[], float],
    ) -> None:
        """Begins the study, or goes on where the journal in `folder` ends."""
        self.plan = plan
        self._clock = clock
        self._ledger = ledger
        self._policy = policy
        self._cost_model = CostModel()
        self._lines = Lines(plan, self._cost_model)
        self._books: dict[str, _TrialBook] = {}
        self._running: dict[str, _Running] = {}
        self._improvements: list[Improvement] = []
        self._errors: list[str] = []
        self._superseded: list[str] = []
        """Checkpoints to delete once the reports that made them needless are on disk."""
        self._checkpoints = CheckpointFolder(folder / "checkpoints")
        self._journal = Journal(folder / "journal.jsonl")
        self.is_resumed = bool(self._journal.past)
        self._replay()
        now = clock()
        self._journal.append(begin_event(plan, at=now))
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
        """Pieces of work that are out, each with a worker."""
        return len({running.piece for running in self._running.values()})

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

    def num_running_on(self, worker: Device) -> int:
        """The same, of one kind of worker."""
        return len({running.piece for running in self._running.values() if running.piece.worker == worker})

    def num_in_line(self, worker: Device) -> int:
        """Trials that wait for a worker of a kind."""
        return self._lines.num_waiting(worker)

    def pay_for_workers(self) -> bool:
        """Keeps the nodes paid for while no worker is up; False where the money or the minutes for that are gone."""
        now = self._clock()
        if self._lease.paid_until <= now + RELEASE_SECONDS:
            until = min(now + WORKER_START_SECONDS + RELEASE_SECONDS, self._lease.latest_end())
            # A hair less, for the latest end is a quotient and may be off by a rounding.
            self._lease.try_extend(now + (until - now) * (1 - 1e-9), now=now)
        return self._lease.paid_until > now

    def next_piece(self, worker: Device | None = None) -> tuple[Segment, ...]:
        """What a free worker of a kind should train now as one; empty where there is nothing, or none is free.

        Without a kind, what any free worker should. Its worst case is paid for. Several segments only where
        `StudyBudget.max_together` allows it and the estimates say that it is cheaper. What was reported before, and
        what is to be trained now, are on disk when this returns.
        """
        piece: tuple[Segment, ...] = ()
        for kind in self.plan.budget.kinds:
            is_asked = worker in (None, kind.name) and self.num_running_on(kind.name) < kind.num_slots
            if is_asked and not piece and self.failure is None:
                piece = self._next_piece(kind.name, self._clock())
        self._commit()
        return piece

    def next_segment(self) -> Segment | None:
        """The same for a study that trains each trial alone; None where there is nothing."""
        assert self.plan.budget.max_together == 1, "this study may train several trials as one: ask for its next piece"
        return next(iter(self.next_piece()), None)

    def report(self, report: TrialReport) -> Decision:
        """Takes what a segment came to, and says what becomes of its trial.

        The dollars of a piece are split by the seconds of its members, so they are booked with the last of these.
        Asking for the next piece is what puts the report on disk.
        """
        now = self._clock()
        usd, seconds = self.usd_so_far, self._seconds_before + now - self._started_at
        self._journal.append(report_event(report, at=now, usd_so_far=usd, elapsed_seconds=seconds))
        piece = self._running[report.trial_id].piece
        decision = self._apply_report(report, usd, seconds)
        piece.decisions[report.trial_id] = decision
        if piece.is_done:
            self._book(piece, piece.seconds_shares(), now)
        return decision

    def lose(self, trial_id: str, reason: str) -> None:
        """The worker of a running trial is gone; the trial goes back to its last checkpoint, or is given up.

        So do all that were trained with it. Those that go on do so alone.
        """
        now = self._clock()
        piece = self._running[trial_id].piece
        for member in [name for name, running in self._running.items() if running.piece is piece]:
            self._journal.append(Event(kind="lost", at=now, data={"trial_id": member, "reason": reason}))
            piece.decisions[member] = self._apply_loss(member)
        self._book(piece, work_shares(self.plan, piece.suggestions), now)

    def fail(self, trial_id: str, error: str) -> None:
        """The training of a trial has raised; it is given up, for it would raise again.

        Of several that were trained as one nobody knows which it was: all of them are lost, and then go on alone.
        """
        piece = self._running[trial_id].piece
        if len(piece.suggestions) > 1:
            self.lose(trial_id, error)
            return
        now = self._clock()
        self._journal.append(Event(kind="failed", at=now, data={"trial_id": trial_id, "error": error}))
        piece.decisions[trial_id] = self._apply_failure(trial_id, error)
        self._book(piece, {trial_id: 1.0}, now)

    def end_overdue(self) -> None:
        """Counts as lost what still runs once its workers were ended from outside."""
        while self._running:
            self.lose(next(iter(self._running)), "its worker was ended at the last moment that was paid for")

    def finish(self) -> StudyResult:
        """Releases the workers, settles the bill and gives what was found. Nothing may be running."""
        assert not self._running, "a study is finished once nothing runs any more"
        now = self._clock()
        self._clear_lines(now)
        self._lease.release(now=now)
        ending = Ending.DONE if self._has_done_its_least() else Ending.BUDGET
        self._journal.append(Event(kind="end", at=now, data={"ending": ending}))
        self._commit()
        self._journal.close()
        shares = self._ledger.shares_of(ACCOUNT)
        return StudyResult(
            study_id=self.plan.study_id,
            metric=self.plan.metric,
            ending=ending,
            trials={
                trial.trial_id: self._summary(trial, usd=shares.get(trial.trial_id, 0.0))
                for trial in self._policy.trials
                if trial.trial_id in self._books  # the others have only stood in line
            },
            improvements=tuple(self._improvements),
            usd=self._ledger.spent_on(ACCOUNT),
            lost_usd=self._ledger.lost_usd,
            seconds=self._ledger.seconds_on(ACCOUNT),
            failure=self.failure,
        )

    def _next_piece(self, worker: Device, now: float) -> tuple[Segment, ...]:
        placed = self._find_work(worker, now)
        offer = None if placed is None else self._offer((placed.suggestion,), placed.placement, now)
        if offer is None:
            return ()
        if not self._lines.leave(offer.suggestions[0].trial_id):
            self._policy.accept(offer.suggestions[0])
        while (larger := self._with_one_more(offer, now)) is not None:
            offer = larger
            self._policy.accept(offer.suggestions[-1])
        return self._start(offer, now)

    def _find_work(self, worker: Device, now: float) -> Placed | None:
        """Whose turn it is on a free slot of a kind; what belongs on others is put in line for them meanwhile."""
        first = self._lines.first(worker)
        if first is not None:
            return first
        busy, next_up = self._busy_seconds(now), None
        while (suggestion := self._suggest(now)) is not None:
            next_up = self._lines.place(suggestion)
            if next_up.placement.worker == worker:
                return next_up
            room = self._room_seconds(now)
            if not self._lines.has_room(next_up.placement.worker) or self._lines.done_seconds(next_up, busy) > room:
                return self._lines.for_idle(worker, busy, next_up)
            self._journal.append(line_event(suggestion, next_up.placement, at=now))
            self._policy.accept(suggestion)
            self._lines.stand(next_up)
        return self._lines.for_idle(worker, busy, None)

    def _suggest(self, now: float) -> Suggestion | None:
        return self._policy.suggest(new_trials=self._may_start_trials(now), room_seconds=self._room_seconds(now))

    def _room_seconds(self, now: float) -> float:
        """What a segment that starts now may take at most."""
        return max(0.0, self._lease.latest_end() - now - RELEASE_SECONDS - HANDOVER_SECONDS)

    def _weight_of(self, worker: Device) -> float:
        """What a second of a worker costs in seconds of the first kind: the policy counts dollars so."""
        budget = self.plan.budget
        return budget.slot_usd_per_second(worker) / budget.kinds[0].usd_per_second

    def _busy_seconds(self, now: float) -> dict[Device, list[float]]:
        """How long each running piece is expected to go on, by kind of worker."""
        busy: dict[Device, list[float]] = {kind.name: [] for kind in self.plan.budget.kinds}
        for piece in {running.piece for running in self._running.values()}:
            busy[piece.worker].append(max(0.0, piece.started_at + piece.expected_seconds - now))
        return busy

    def _offer(self, suggestions: tuple[Suggestion, ...], placement: Placement, now: float) -> _Offer | None:
        """A piece of these, with its worst case paid for; None where that does not fit."""
        kind_of_work = (suggestions[0].candidate.family, placement.worker)
        nominal = nominal_seconds(self.plan, suggestions, placement.worker)
        duration = self._cost_model.predict(kind_of_work, nominal, point_of(self.plan, suggestions))
        allowance = self._allow(duration, now)
        if allowance is None:
            return None
        return _Offer(suggestions=suggestions, placement=placement, duration=duration, allowance=allowance)

    def _with_one_more(self, offer: _Offer, now: float) -> _Offer | None:
        """The offer with the policy's next suggestion in it; None where that is better left to another worker."""
        may_start_trials, budget = self._may_start_trials(now), self.plan.budget
        worker = offer.placement.worker
        # Workers cost the same idle or busy: where no new trial would keep the others busy, each takes what there is.
        others_would_idle = not may_start_trials and self.num_running_on(worker) + 1 < budget.kind(worker).num_slots
        if worker != "cpu" or len(offer.suggestions) >= budget.max_together or others_would_idle:
            return None
        suggestion = self._policy.suggest(new_trials=may_start_trials, room_seconds=self._room_seconds(now))
        if suggestion is None or not is_worth_joining(self.plan, suggestion, offer.suggestions):
            return None
        if self._lines.place(suggestion).placement.worker != worker:
            return None
        # Whoever has lost a worker goes on alone: it may be the cause, and must not take others with it.
        members = (*offer.suggestions, suggestion)
        if any(book.num_losses for member in members if (book := self._books.get(member.trial_id)) is not None):
            return None
        return self._offer(members, offer.placement, now)

    def _start(self, offer: _Offer, now: float) -> tuple[Segment, ...]:
        piece = Piece(started_at=now, worker=offer.placement.worker)
        shares = work_shares(self.plan, offer.suggestions)
        for suggestion in offer.suggestions:
            duration = offer.duration.share(shares[suggestion.trial_id])
            self._enter(piece, suggestion, offer.allowance, duration.expected_seconds)
            self._journal.append(
                start_event(
                    suggestion,
                    offer.placement,
                    piece=offer.suggestions[0].trial_id,
                    at=now,
                    limit_seconds=offer.allowance.limit_seconds,
                    duration=duration,
                )
            )
        return tuple(self._running[suggestion.trial_id].segment for suggestion in piece.suggestions)

    def _enter(self, piece: Piece, suggestion: Suggestion, allowance: _Allowance, expected_seconds: float) -> None:
        """A suggestion that was accepted runs from now on, in a piece."""
        piece.suggestions.append(suggestion)
        piece.expected_seconds += expected_seconds
        expected_usd = expected_seconds * self.plan.budget.slot_usd_per_second(piece.worker)
        self._books.setdefault(suggestion.trial_id, _TrialBook()).expected_usd += expected_usd
        segment = self._segment(suggestion, allowance, piece.worker)
        self._running[suggestion.trial_id] = _Running(segment=segment, piece=piece)

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

    def _segment(self, suggestion: Suggestion, allowance: _Allowance, worker: Device) -> Segment:
        return Segment(
            trial_id=suggestion.trial_id,
            family=suggestion.candidate.family,
            configuration=suggestion.candidate.configuration,
            seed=self._trial_seed(suggestion.trial_id),
            start_units=suggestion.start_units,
            stop_units=suggestion.stop_units,
            limit_seconds=allowance.limit_seconds,
            deadline=allowance.deadline,
            device=worker,
        )

    def _trial_seed(self, trial_id: str) -> int:
        # scikit-learn takes seeds of 32 bits.
        return (self.plan.seed * 100_003 + int(trial_id[1:])) % 2**32

    def _book(self, piece: Piece, shares: Mapping[str, float], now: float) -> None:
        """Splits the bill of a worker since it took up a piece; with what became of each trial, it is written down."""
        slot_share = self.plan.budget.slot_usd_per_second(piece.worker) / self.plan.budget.usd_per_second
        for trial_id, share in shares.items():
            seconds = share * (now - piece.started_at)
            usd = self._lease.share(
                trial_id, seconds=seconds, slot_share=slot_share, now=now, is_lost=not piece.is_done
            )
            rung = self._policy.trial(trial_id).rung
            self._journal.append(decision_event(trial_id, piece.decisions[trial_id], at=now, rung=rung, usd=usd))

    def _apply_report(self, report: TrialReport, usd: float, seconds: float) -> Decision:
        piece = self._running.pop(report.trial_id).piece
        piece.reports[report.trial_id] = report
        if piece.is_done:
            self._observe_cost(piece)
        decision = self._policy.report(
            report.trial_id,
            units=report.units,
            loss=report.loss,
            seconds=report.seconds * self._weight_of(piece.worker),
        )
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
        self._superseded += before - book.checkpoints

    def _commit(self) -> None:
        """Puts on disk what was written down, before anything is done because of it."""
        self._journal.sync()
        for name in self._superseded:
            self._checkpoints.delete(name)
        self._superseded.clear()

    def _observe_cost(self, piece: Piece) -> None:
        """Once a piece: its members share one worker, so that their seconds say the same."""
        self._cost_model.observe(
            (piece.suggestions[0].candidate.family, piece.worker),
            nominal_seconds=done_seconds(self.plan, piece),
            actual_seconds=sum(report.seconds for report in piece.reports.values()),
            point=point_of(self.plan, piece.suggestions),
        )

    def _apply_loss(self, trial_id: str) -> Decision:
        running = self._running.pop(trial_id)
        book = self._books.setdefault(trial_id, _TrialBook())
        book.num_losses += 1
        self._policy.lose(trial_id, units=running.segment.start_units)
        if book.num_losses >= MAX_LOSSES:
            self._policy.give_up(trial_id)
            return Decision(action=Action.STOP, reason=f"its worker was lost {book.num_losses} times; given up")
        units = running.segment.start_units
        return Decision(action=Action.PAUSE, reason=f"its worker was lost; back to its checkpoint at {units} units")

    def _apply_failure(self, trial_id: str, error: str) -> Decision:
        self._running.pop(trial_id)
        self._books.setdefault(trial_id, _TrialBook())
        self._errors.append(error)
        self._policy.give_up(trial_id)
        return Decision(action=Action.STOP, reason="its training raised, and would raise again")

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
            forecast_usd=book.expected_usd,
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
                case "line":
                    self._policy.accept(suggestion_of(event))
                    self._lines.stand(Placed(suggestion=suggestion_of(event), placement=placement_of(event)))
                case "unline":
                    self._take_out_of_line(str(event.data["trial_id"]), int(event.data["units"]))
                case "begin" | "decision" | "end":
                    continue

    def _replay_start(self, event: Event) -> None:
        suggestion, leader = suggestion_of(event), piece_of(event)
        is_leader = leader == suggestion.trial_id
        new_piece = Piece(started_at=event.at, worker=placement_of(event).worker)
        piece = new_piece if is_leader else self._running[leader].piece
        if not self._lines.leave(suggestion.trial_id):
            self._policy.accept(suggestion)
        allowance = _Allowance(limit_seconds=event.data["limit_seconds"], deadline=event.at)
        self._enter(piece, suggestion, allowance, float(event.data["expected_seconds"]))

    def _put_back_interrupted(self, now: float) -> None:
        """Trials that ran when the last driver ended stand at their last checkpoints; it was no fault of theirs.

        What they had cost since is booked as lost by the ledger, with the rest of the nodes' bill.
        """
        for trial_id, running in list(self._running.items()):
            self._journal.append(Event(kind="interrupted", at=now, data={"trial_id": trial_id}))
            self._running.pop(trial_id)
            self._policy.lose(trial_id, units=running.segment.start_units)
        self._clear_lines(now)

    def _clear_lines(self, now: float) -> None:
        """Trials that wait for a worker stand where they stood before: this driver's workers may be others."""
        for placed in self._lines.all():
            trial_id, units = placed.suggestion.trial_id, placed.suggestion.start_units
            self._journal.append(Event(kind="unline", at=now, data={"trial_id": trial_id, "units": units}))
            self._take_out_of_line(trial_id, units)

    def _take_out_of_line(self, trial_id: str, units: int) -> None:
        self._lines.leave(trial_id)
        self._policy.lose(trial_id, units=units)
