"""A study: the search policy, the money and the memory in one place, for any runner to drive.

A runner asks for the next segment whenever a worker is free, and tells what came of it. All decisions are made here, so
that the simulator and Ray Tune cannot differ in them. What is done is written down first, and then happens to the
`Course`; what it may cost, the `Purse` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from mlcluster.cost import Ledger
from mlcluster.search import Decision, SearchPolicy, TrialRecord
from mlcluster.spec import Device
from mlcluster.train import CheckpointFolder, Segment, TrialReport
from mlcluster.tune.course import Course
from mlcluster.tune.events import Start, begin_event, decision_event, report_event, start_event
from mlcluster.tune.journal import Event, Journal
from mlcluster.tune.offers import Offer, Offers
from mlcluster.tune.piece import Piece, trial_seed, work_shares
from mlcluster.tune.plan import StudyPlan
from mlcluster.tune.purse import Held, Purse
from mlcluster.tune.restoring import restore
from mlcluster.tune.result import Ending, Improvement, StudyResult
from mlcluster.tune.trial_books import Spent


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
        self._checkpoints = CheckpointFolder(folder / "checkpoints")
        self._journal = Journal(folder / "journal.jsonl")
        self.is_resumed = bool(self._journal.past)
        self._course = Course(plan, policy)
        restore(self._course, self._journal.past)
        now = clock()
        self._journal.append(begin_event(plan, at=now))
        self._purse = Purse(plan.budget, ledger, started_at=now)
        self._offers = Offers(self._course, self._purse, self._journal)
        self._put_back_interrupted(now)

    @property
    def num_running(self) -> int:
        """Pieces of work that are out, each with a worker."""
        return self._course.num_pieces

    @property
    def trials(self) -> tuple[TrialRecord, ...]:
        return tuple(self._course.trials)

    @property
    def best(self) -> Improvement | None:
        return self._course.books.best

    @property
    def seconds_left(self) -> float:
        """Until the last moment that money and minutes allow."""
        return self._purse.seconds_left(self._clock())

    @property
    def usd_so_far(self) -> float:
        """Of this study: what earlier drivers spent, and this one's nodes until now."""
        return self._purse.usd_so_far(self._clock())

    @property
    def is_overdue(self) -> bool:
        """Whether workers are held for longer than was paid for, as when one takes minutes to start."""
        return bool(self._course.running) and self._purse.is_overdrawn(self._clock())

    @property
    def has_peaked(self) -> bool:
        """Whether no new trial will start. Once a free worker found nothing, as many as train now are then enough.

        For a trial that reports goes on at most itself, or lets one other go on in its place.
        """
        return not self._offers.may_start_trials(self._clock())

    @property
    def failure(self) -> str | None:
        """The error with which the first trials all failed, where not one has reported; the study ends with it."""
        return self._course.failure

    def num_running_on(self, worker: Device) -> int:
        """The same as `num_running`, of one kind of worker."""
        return self._course.num_running_on(worker)

    def num_in_line(self, worker: Device) -> int:
        """Trials that wait for a worker of a kind."""
        return self._course.lines.num_waiting(worker)

    def pay_for_workers(self) -> bool:
        """Keeps the nodes paid for while no worker is up; False where the money or the minutes for that are gone."""
        return self._purse.keep_open(self._clock())

    def reprice(self, usd_per_second: float, *, given_up_usd_per_second: float = 0.0) -> None:
        """What all nodes of the cluster cost from now on, idle or busy, the head and those of no use here included.

        It is never taken for less than was planned with, but for what the nodes had cost that were given up.
        """
        self._purse.reprice(usd_per_second, self._clock(), given_up_usd_per_second=given_up_usd_per_second)

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
                now = self._clock()
                offer = self._offers.accept_next(kind.name, now)
                piece = () if offer is None else self._start(offer, now)
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
        spent = Spent(usd=self._purse.usd_so_far(now), seconds=self._purse.seconds_so_far(now))
        over_limit = self.plan.limits.violation(report.measured)
        self._journal.append(report_event(report, spent, at=now, over_limit=over_limit))
        piece = self._course.running[report.trial_id].piece
        decision = self._course.report(report, spent)
        if piece.is_done:
            self._book(piece, piece.seconds_shares(), now)
        return decision

    def lose(self, trial_id: str, reason: str) -> None:
        """The worker of a running trial is gone; the trial goes back to its last checkpoint, or is given up.

        So do all that were trained with it. Those that go on do so alone.
        """
        now = self._clock()
        piece = self._course.running[trial_id].piece
        for member in [name for name, running in self._course.running.items() if running.piece is piece]:
            self._journal.append(Event(kind="lost", at=now, data={"trial_id": member, "reason": reason}))
            self._course.lose(member)
        self._book(piece, work_shares(self.plan, piece.suggestions), now)

    def fail(self, trial_id: str, error: str) -> None:
        """The training of a trial has raised; it is given up, for it would raise again.

        Of several that were trained as one nobody knows which it was: all of them are lost, and then go on alone.
        """
        piece = self._course.running[trial_id].piece
        if len(piece.suggestions) > 1:
            self.lose(trial_id, error)
            return
        now = self._clock()
        self._journal.append(Event(kind="failed", at=now, data={"trial_id": trial_id, "error": error}))
        self._course.fail(trial_id, error)
        self._book(piece, {trial_id: 1.0}, now)

    def end_overdue(self) -> None:
        """Counts as lost what still runs once its workers were ended from outside."""
        while self._course.running:
            self.lose(next(iter(self._course.running)), "its worker was ended at the last moment that was paid for")

    def finish(self) -> StudyResult:
        """Releases the workers, settles the bill and gives what was found. Nothing may be running."""
        assert not self._course.running, "a study is finished once nothing runs any more"
        now = self._clock()
        self._clear_lines(now)
        self._purse.close(now)
        ending = Ending.DONE if self._course.has_done_its_least else Ending.BUDGET
        self._journal.append(Event(kind="end", at=now, data={"ending": ending}))
        self._commit()
        self._journal.close()
        return self._result(ending)

    def _result(self, ending: Ending) -> StudyResult:
        usd, books = self._purse.usd_by_trial(), self._course.books
        return StudyResult(
            study_id=self.plan.study_id,
            metric=self.plan.metric,
            ending=ending,
            trials={
                trial.trial_id: books.summary(
                    trial, usd=usd.get(trial.trial_id, 0.0), seed=trial_seed(self.plan, trial.trial_id)
                )
                for trial in self._course.started()
            },
            improvements=tuple(books.improvements),
            usd=self._purse.spent_usd,
            lost_usd=self._purse.lost_usd,
            seconds=self._purse.spent_seconds,
            failure=self.failure,
        )

    def _start(self, offer: Offer, now: float) -> tuple[Segment, ...]:
        piece = Piece(started_at=now, worker=offer.placement.worker)
        shares = work_shares(self.plan, offer.suggestions)
        for suggestion in offer.suggestions:
            duration = offer.duration.share(shares[suggestion.trial_id])
            self._course.start(piece, suggestion, offer.allowance, duration.expected_seconds)
            start = Start(
                suggestion=suggestion,
                placement=offer.placement,
                piece=offer.suggestions[0].trial_id,
                limit_seconds=offer.allowance.limit_seconds,
                duration=duration,
                question=offer.questions.get(suggestion.trial_id),
            )
            self._journal.append(start_event(start, at=now))
        return tuple(self._course.running[suggestion.trial_id].segment for suggestion in piece.suggestions)

    def _book(self, piece: Piece, shares: Mapping[str, float], now: float) -> None:
        """Splits the bill of a worker since it took up a piece; with what became of each trial, it is written down."""
        for trial_id, share in shares.items():
            seconds = share * (now - piece.started_at)
            usd = self._purse.book(trial_id, Held(worker=piece.worker, seconds=seconds, is_lost=not piece.is_done), now)
            rung = self._course.policy.trial(trial_id).rung
            self._journal.append(decision_event(trial_id, piece.decisions[trial_id], at=now, rung=rung, usd=usd))

    def _commit(self) -> None:
        """Puts on disk what was written down, before anything is done because of it."""
        self._journal.sync()
        for name in self._course.books.pop_superseded():
            self._checkpoints.delete(name)

    def _put_back_interrupted(self, now: float) -> None:
        """Trials that ran when the last driver ended stand at their last checkpoints.

        What they had cost since is booked as lost by the ledger, with the rest of the nodes' bill.
        """
        for trial_id in list(self._course.running):
            self._journal.append(Event(kind="interrupted", at=now, data={"trial_id": trial_id}))
            self._course.interrupt(trial_id)
        self._clear_lines(now)

    def _clear_lines(self, now: float) -> None:
        """Trials that wait for a worker stand where they stood before: this driver's workers may be others."""
        for placed in self._course.lines.all():
            trial_id, units = placed.suggestion.trial_id, placed.suggestion.start_units
            self._journal.append(Event(kind="unline", at=now, data={"trial_id": trial_id, "units": units}))
            self._course.leave_line(trial_id, units)
