"""What a free worker could train now: the policy's next suggestions, as one piece whose worst case is paid for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mlcluster.cost import Duration
from mlcluster.search import Suggestion
from mlcluster.spec import Device
from mlcluster.tune.course import Course
from mlcluster.tune.events import Question, line_event
from mlcluster.tune.journal import Journal
from mlcluster.tune.lines import Placed
from mlcluster.tune.piece import is_worth_joining
from mlcluster.tune.placement import Placement
from mlcluster.tune.purse import Allowance, Purse


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A piece that could start now: it is paid for, but nobody was told."""

    suggestions: tuple[Suggestion, ...]
    placement: Placement
    duration: Duration
    allowance: Allowance
    questions: Mapping[str, Question] = field(default_factory=dict)
    """By trial: what the policy was asked that has suggested it; not of those that have stood in line."""


class Offers:
    """Of one study, at the price of its purse; who is put in line meanwhile is written into its journal."""

    def __init__(self, course: Course, purse: Purse, journal: Journal) -> None:
        self._course = course
        self._purse = purse
        self._journal = journal
        self._questions: dict[str, Question] = {}
        """By trial: what the policy was asked last that has suggested it."""

    def accept_next(self, worker: Device, now: float) -> Offer | None:
        """The next piece for a free slot of a kind, its members accepted; None where there is nothing."""
        placed = self._find_work(worker, now)
        offer = None if placed is None else self._pay_for((placed.suggestion,), placed.placement, now)
        if offer is None:
            return None
        self._course.accept(offer.suggestions[0])
        while (larger := self._with_one_more(offer, now)) is not None:
            offer = larger
            self._course.accept(offer.suggestions[-1])
        asked = [one.trial_id for one in offer.suggestions if one.trial_id in self._questions]
        return replace(offer, questions={trial_id: self._questions.pop(trial_id) for trial_id in asked})

    def may_start_trials(self, now: float) -> bool:
        """Whether the policy may still begin new ones."""
        limit = self._course.plan.budget.max_trials
        return self._purse.may_start_trials(now) and (limit is None or len(self._course.trials) < limit)

    def _find_work(self, worker: Device, now: float) -> Placed | None:
        """Whose turn it is on a free slot of a kind; what belongs on others is put in line for them meanwhile."""
        lines = self._course.lines
        first = lines.first(worker)
        if first is not None:
            return first
        while (suggestion := self._suggest(now)) is not None:
            next_up = lines.place(suggestion)
            if next_up.placement.worker == worker:
                return next_up
            busy, room = self._course.busy_seconds(now), self._purse.room_seconds(now)
            if not lines.has_room(next_up.placement.worker) or lines.done_seconds(next_up, busy) > room:
                return lines.for_idle(worker, busy, next_up)
            question = self._questions.pop(suggestion.trial_id)
            self._journal.append(line_event(suggestion, next_up.placement, question, at=now))
            self._course.stand_in_line(next_up)
        return lines.for_idle(worker, self._course.busy_seconds(now), None)

    def _suggest(self, now: float) -> Suggestion | None:
        asked = Question(new_trials=self.may_start_trials(now), room_seconds=self._purse.room_seconds(now))
        suggestion = self._course.policy.suggest(new_trials=asked.new_trials, room_seconds=asked.room_seconds)
        if suggestion is not None:
            self._questions[suggestion.trial_id] = asked
        return suggestion

    def _pay_for(self, suggestions: tuple[Suggestion, ...], placement: Placement, now: float) -> Offer | None:
        """A piece of these, with its worst case paid for; None where that does not fit."""
        duration = self._course.predict(suggestions, placement.worker)
        allowance = self._purse.allow(duration, now)
        if allowance is None:
            return None
        return Offer(suggestions=suggestions, placement=placement, duration=duration, allowance=allowance)

    def _with_one_more(self, offer: Offer, now: float) -> Offer | None:
        """The offer with the policy's next suggestion in it; None where that is better left to another worker."""
        if not self._may_grow(offer, now):
            return None
        plan, worker, suggestion = self._course.plan, offer.placement.worker, self._suggest(now)
        if suggestion is None or not is_worth_joining(plan, suggestion, offer.suggestions):
            return None
        if self._course.lines.place(suggestion).placement.worker != worker:
            return None
        # Whoever has lost a worker goes on alone: it may be the cause, and must not take others with it.
        members = (*offer.suggestions, suggestion)
        if any(self._course.books.has_lost_workers(member.trial_id) for member in members):
            return None
        return self._pay_for(members, offer.placement, now)

    def _may_grow(self, offer: Offer, now: float) -> bool:
        budget, worker = self._course.plan.budget, offer.placement.worker
        # Workers cost the same idle or busy: where no new trial would keep the others busy, each takes what there is.
        others_would_idle = self._course.num_running_on(worker) + 1 < budget.kind(worker).num_slots
        is_small = worker == "cpu" and len(offer.suggestions) < budget.max_together
        return is_small and (self.may_start_trials(now) or not others_would_idle)
