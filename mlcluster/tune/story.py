"""The story of a study, from its journal: who proposed each trial and why, what each segment took, what came of it.

Events in, records out. No policy runs again: its reasons stand in the journal, so a study of years ago tells the story
that it had then. Journals from before decisions, prices and worst cases were written down are read too; what they do
not hold is worked out from their times where that is exact, and is None elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from mlcluster.search import Action, Decision, Suggestion, TrialState
from mlcluster.spec import Configuration
from mlcluster.train import Measured, TrialReport
from mlcluster.tune.events import piece_of, report_of, suggestion_of
from mlcluster.tune.journal import Event
from mlcluster.tune.result import Ending, Improvement, StudyResult


class SegmentEnd(StrEnum):
    """How a segment ended."""

    RUNNING = "running"
    REPORTED = "reported"
    CUT = "cut"
    """By its time limit, short of its units."""
    OVER_LIMIT = "over limit"
    """It has trained; what its model needs is more than `tune.limits` allow, and the trial was given up."""
    LOST = "lost"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """The driver ended, and the segment with it; its money is booked as lost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentStory:
    """One piece of a trial's training: what was asked and why, what it took, what was decided then."""

    rung: int
    reason: str
    """Why the trial was sent on."""
    started_at: float
    """Seconds since the study began."""
    worker: str
    """`cpu` or `gpu`."""
    start_units: int
    stop_units: int
    expected_seconds: float
    worst_case_seconds: float | None
    limit_seconds: float
    end: SegmentEnd = SegmentEnd.RUNNING
    units: int | None = None
    """Where it came to."""
    loss: float | None = None
    value: float | None = None
    """The metric on the validation split there."""
    seconds: float | None = None
    """Of training, as the worker reported them."""
    held_seconds: float | None = None
    """For which the worker was held, and is paid."""
    usd: float | None = None
    """Its part of the bill."""
    study_usd: float | None = None
    """What the whole study had cost when it reported."""
    study_seconds: float | None = None
    decision: Decision | None = None
    rung_after: int | None = None
    """Where the trial stands with it: above `rung` where a higher one asks for no more units."""
    worker_reason: str = ""
    """Why on that kind of worker; empty where there was no other."""
    note: str | None = None
    """The error, how the worker was lost, or which limit was broken."""
    measured: Measured | None = None
    """What serving its model needs, where that was measured."""
    together: tuple[str, ...] = ()
    """The trials that the worker has trained with it as one; it was held for all of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialStory:
    """One trial from its proposal to where it stands now."""

    trial_id: str
    family: str
    configuration: Configuration
    origin: str
    reason: str
    """Why it was begun."""
    segments: tuple[SegmentStory, ...]
    state: TrialState
    rung: int
    units: int
    """Of its best report."""
    value: float | None
    """The metric of its best report; None where there is none that can be used."""
    loss: float | None
    rank: int | None = None
    """1 is the best of the study."""

    @property
    def usd(self) -> float:
        return sum(segment.usd or 0.0 for segment in self.segments)

    @property
    def seconds(self) -> float:
        """Of training."""
        return sum(segment.seconds or 0.0 for segment in self.segments)

    @property
    def over_limit(self) -> str | None:
        """Why the trial was pruned, where its model came to need more than the limits allow."""
        ends = [one.note for one in self.segments if one.end is SegmentEnd.OVER_LIMIT]
        return ends[-1] if ends else None

    @property
    def measured(self) -> Measured | None:
        """What serving its best model needs; of one without a score, its last."""
        end = self.best_segment
        until = self.segments if end is None else self.segments[: self.segments.index(end) + 1]
        # A model that does not grow with its training was measured once, after its first segment.
        return next((one.measured for one in reversed(until) if one.measured is not None), None)

    @property
    def best_segment(self) -> SegmentStory | None:
        """The one whose model would ship."""
        return next((one for one in self.segments if _is_usable(one) and one.loss == self.loss), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyStory:
    """A study as its journal tells it, ended or not. `trials` are in the order in which they started."""

    study_id: str
    seed: int
    metric: str | None
    """None in a journal from before it was written down, of a study that has not ended."""
    trials: tuple[TrialStory, ...]
    improvements: tuple[Improvement, ...]
    usd: float
    """Idle time and lost work included."""
    seconds: float
    num_drivers: int
    """1, and one more for each time that the study was gone on with."""
    ending: Ending | None
    """None while it can be gone on with."""

    def ranked(self) -> list[TrialStory]:
        """Trials with a score, best first."""
        scored = [trial for trial in self.trials if trial.rank is not None]
        return sorted(scored, key=lambda trial: trial.rank or 0)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, dollars and seconds of each trial included."""
        trials = [trial_to_json(trial) for trial in self.trials]
        told: dict[str, Any] = as_plain_json({**asdict(self), "trials": trials})
        return told


def trial_to_json(trial: TrialStory) -> dict[str, Any]:
    """Plain JSON, with the sums over the trial's segments."""
    sums = {"usd": trial.usd, "seconds": trial.seconds, "over_limit": trial.over_limit}
    told: dict[str, Any] = as_plain_json({**asdict(trial), **sums})
    return told


def as_plain_json(value: Any) -> Any:
    """`value` without NaN and infinities, which JSON has no word for: they become null."""
    if isinstance(value, Mapping):
        return {str(key): as_plain_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain_json(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def tell_study(events: Iterable[Event], result: StudyResult | None = None) -> StudyStory:
    """The story in a journal. `result` is what the study came to, where it has ended: it settles what it knows better.

    Events of unknown kinds are passed over.
    """
    teller = _Teller()
    for event in events:
        teller.hear(event)
    return teller.story(result)


@dataclass(kw_only=True, slots=True)
class _Teller:
    """Hears the events in order. `begin` holds the terms of the study, as its last driver had them."""

    begin: dict[str, Any] = field(default_factory=dict)
    began_at: float = 0.0
    num_drivers: int = 0
    ending: Ending | None = None
    first: dict[str, Suggestion] = field(default_factory=dict)
    segments: dict[str, list[SegmentStory]] = field(default_factory=dict)
    pieces: dict[tuple[str, float], list[str]] = field(default_factory=dict)
    """What was trained as one, by its leader and when it began."""
    improvements: list[Improvement] = field(default_factory=list)
    best_loss: float = math.inf
    num_open: int = 0
    most_open: int = 1
    usd: float = 0.0
    seconds: float = 0.0

    def hear(self, event: Event) -> None:
        data = event.data
        match event.kind:
            case "begin":
                self.began_at = self.began_at if self.num_drivers else event.at
                self.num_drivers += 1
                self.begin = dict(data)
            case "start":
                self._hear_start(event)
            case "report":
                self._hear_report(event, report_of(event))
            case "lost":
                self._end(event, end=SegmentEnd.LOST, note=str(data["reason"]))
            case "failed":
                self._end(event, end=SegmentEnd.FAILED, note=str(data["error"]))
            case "interrupted":
                self._end(event, end=SegmentEnd.INTERRUPTED, note="the driver ended")
            case "decision":
                decision = Decision(action=Action(data["action"]), reason=str(data["reason"]))
                self._amend(data["trial_id"], decision=decision, usd=data["usd"], rung_after=data["rung"])
            case "end":
                self.ending = Ending(data["ending"])

    def _hear_start(self, event: Event) -> None:
        suggestion, data = suggestion_of(event), event.data
        self.first.setdefault(suggestion.trial_id, suggestion)
        self.num_open += 1
        self.most_open = max(self.most_open, self.num_open)
        self.segments.setdefault(suggestion.trial_id, []).append(
            SegmentStory(
                rung=suggestion.rung,
                reason=suggestion.reason,
                started_at=event.at - self.began_at,
                worker=data.get("worker", "cpu"),
                worker_reason=data.get("worker_reason", ""),
                start_units=suggestion.start_units,
                stop_units=suggestion.stop_units,
                expected_seconds=data["expected_seconds"],
                worst_case_seconds=data.get("worst_case_seconds"),
                limit_seconds=data["limit_seconds"],
            )
        )
        members = self.pieces.setdefault((piece_of(event), event.at), [])
        members.append(suggestion.trial_id)
        for member in members:
            self._amend(member, together=tuple(other for other in members if other != member))

    def _hear_report(self, event: Event, report: TrialReport) -> None:
        self.usd, self.seconds = event.data["usd_so_far"], event.data["elapsed"]
        value = report.curve[-1].value
        over_limit = event.data.get("over_limit")
        is_cut = report.units < self.segments[report.trial_id][-1].stop_units
        end = SegmentEnd.CUT if is_cut else SegmentEnd.REPORTED
        self._end(
            event,
            end=end if over_limit is None else SegmentEnd.OVER_LIMIT,
            note=over_limit,
            measured=report.measured,
            units=report.units,
            loss=report.loss,
            value=value,
            seconds=report.seconds,
            study_usd=self.usd,
            study_seconds=self.seconds,
        )
        if over_limit is None and report.loss < self.best_loss:
            self.best_loss = report.loss
            improvement = Improvement(trial_id=report.trial_id, value=value, usd=self.usd, seconds=self.seconds)
            self.improvements.append(improvement)

    def _end(self, event: Event, **changes: Any) -> None:
        trial_id = str(event.data["trial_id"])
        self.num_open -= 1
        held = event.at - self.began_at - self.segments[trial_id][-1].started_at
        self._amend(trial_id, held_seconds=held, **changes)

    def _amend(self, trial_id: str, **changes: Any) -> None:
        self.segments[trial_id][-1] = replace(self.segments[trial_id][-1], **changes)

    def story(self, result: StudyResult | None) -> StudyStory:
        trials = [self._trial(trial_id, result) for trial_id in self.segments]
        order = sorted((one for one in trials if one.loss is not None), key=lambda one: one.loss or 0.0)
        ranks = {trial.trial_id: rank for rank, trial in enumerate(order, start=1)}
        return StudyStory(
            study_id=str(self.begin.get("study_id", "")),
            seed=int(self.begin.get("seed", 0)),
            metric=self.begin.get("metric") if result is None else result.metric,
            trials=tuple(replace(trial, rank=ranks.get(trial.trial_id)) for trial in trials),
            improvements=tuple(self.improvements),
            usd=self.usd if result is None else result.usd,
            seconds=self.seconds if result is None else result.seconds,
            num_drivers=self.num_drivers,
            ending=self.ending if result is None else result.ending,
        )

    def _trial(self, trial_id: str, result: StudyResult | None) -> TrialStory:
        first = self.first[trial_id]
        segments = tuple(map(self._billed, self.segments[trial_id]))
        usable = list(filter(_is_usable, segments))
        best = min(usable, key=lambda one: one.loss or 0.0, default=None)
        known = None if result is None else result.trials.get(trial_id)
        rung = segments[-1].rung if segments[-1].rung_after is None else segments[-1].rung_after
        return TrialStory(
            trial_id=trial_id,
            family=first.candidate.family,
            configuration=first.candidate.configuration,
            origin=first.candidate.origin,
            reason=first.reason,
            segments=segments,
            state=_state_after(segments) if known is None else TrialState(known.state),
            rung=rung if known is None else known.rung,
            units=0 if best is None else best.units or 0,
            value=None if best is None else best.value,
            loss=None if best is None else best.loss,
        )

    def _billed(self, segment: SegmentStory) -> SegmentStory:
        """With its dollars, by the price of a slot, where the journal does not hold them."""
        is_billed = segment.end not in (SegmentEnd.RUNNING, SegmentEnd.INTERRUPTED)
        if segment.usd is not None or segment.held_seconds is None or not is_billed:
            return segment
        studys = self.usd / self.seconds if self.seconds else 0.0
        slots = self.begin.get("usd_per_second", studys) / self.begin.get("num_slots", self.most_open)
        usd_per_second = self.begin.get("slot_usd_per_second", {}).get(segment.worker, slots)
        return replace(segment, usd=segment.held_seconds * usd_per_second / (1 + len(segment.together)))


def _is_usable(segment: SegmentStory) -> bool:
    """Whether the model behind it may ship."""
    has_score = segment.loss is not None and math.isfinite(segment.loss)
    return has_score and segment.end is not SegmentEnd.OVER_LIMIT


def _state_after(segments: tuple[SegmentStory, ...]) -> TrialState:
    """Where a trial stands behind its last segment; without decisions in the journal, as far as it can be told."""
    last = segments[-1]
    if last.end is SegmentEnd.RUNNING:
        return TrialState.RUNNING
    if last.decision is not None:
        states = {Action.COMPLETE: TrialState.COMPLETE, Action.STOP: TrialState.FAILED}
        return states.get(last.decision.action, TrialState.PAUSED)
    has_no_number = last.loss is not None and not math.isfinite(last.loss)
    is_unusable = last.end in (SegmentEnd.FAILED, SegmentEnd.OVER_LIMIT) or has_no_number
    return TrialState.FAILED if is_unusable else TrialState.PAUSED
