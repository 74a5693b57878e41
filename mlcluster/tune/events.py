"""What the journal's events hold: suggestions, reports and decisions as plain JSON, and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from mlcluster.cost import Duration
from mlcluster.search import Candidate, Decision, Suggestion
from mlcluster.spec import Device
from mlcluster.train import TrialReport
from mlcluster.tune.journal import Event
from mlcluster.tune.placement import Placement
from mlcluster.tune.plan import StudyPlan
from mlcluster.tune.trial_books import Spent

_BESIDE_A_REPORT = ("usd_so_far", "elapsed", "over_limit")


def begin_event(plan: StudyPlan, *, at: float) -> Event:
    """A driver takes up the study."""
    terms = {
        "num_slots": plan.budget.num_slots,
        "usd_per_second": plan.budget.usd_per_second,
        "slot_usd_per_second": {kind.name: kind.usd_per_second for kind in plan.budget.kinds},
    }
    return Event(
        kind="begin", at=at, data={"study_id": plan.study_id, "seed": plan.seed, "metric": plan.metric, **terms}
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What the policy was asked: whether a new trial may begin, and the seconds that are left for a segment."""

    new_trials: bool
    room_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """A segment that begins, in the piece that is led by the trial `piece`: its own, where it is trained alone."""

    suggestion: Suggestion
    placement: Placement
    piece: str
    limit_seconds: float
    duration: Duration
    """What the cost model said of it."""
    question: Question | None
    """None where the trial has stood in line: the policy was asked before."""


def line_event(suggestion: Suggestion, placement: Placement, question: Question, *, at: float) -> Event:
    """A suggestion is accepted, and waits for a worker of its kind."""
    return Event(kind="line", at=at, data={**asdict(suggestion), **_worker(placement), **asdict(question)})


def start_event(start: Start, *, at: float) -> Event:
    """A segment begins."""
    beside = {"piece": start.piece, "limit_seconds": start.limit_seconds, **asdict(start.duration)}
    asked = {} if start.question is None else asdict(start.question)
    return Event(kind="start", at=at, data={**asdict(start.suggestion), **beside, **_worker(start.placement), **asked})


def _worker(placement: Placement) -> dict[str, str]:
    return {"worker": placement.worker, "worker_reason": placement.reason}


def placement_of(event: Event) -> Placement:
    """The kind of worker of a start or a line event; in journals from before there were several, a CPU."""
    worker: Device = event.data.get("worker", "cpu")
    return Placement(worker=worker, reason=str(event.data.get("worker_reason", "")))


def question_of(event: Event) -> Question | None:
    """What the policy was asked before a start or a line event; None in journals from before it was written down."""
    if "room_seconds" not in event.data:
        return None
    return Question(new_trials=bool(event.data["new_trials"]), room_seconds=float(event.data["room_seconds"]))


def piece_of(event: Event) -> str:
    """The trial that leads the piece of a start event; in journals from before there were pieces, the trial itself."""
    return str(event.data.get("piece", event.data["trial_id"]))


def suggestion_of(event: Event) -> Suggestion:
    """What a start event carries out, or a line event announces."""
    known = {field.name: event.data[field.name] for field in fields(Suggestion) if field.name in event.data}
    return Suggestion(**{**known, "candidate": Candidate(**known["candidate"])})


def report_event(report: TrialReport, spent: Spent, *, at: float, over_limit: str | None) -> Event:
    """A segment has reported; `spent` is the study's until then, `over_limit` says which limit its model breaks."""
    beside = {"usd_so_far": spent.usd, "elapsed": spent.seconds}
    broken = {} if over_limit is None else {"over_limit": over_limit}
    return Event(kind="report", at=at, data={**report.to_json(), **beside, **broken})


def report_of(event: Event) -> TrialReport:
    """What a report event holds."""
    return TrialReport.from_json({key: value for key, value in event.data.items() if key not in _BESIDE_A_REPORT})


def decision_event(trial_id: str, decision: Decision, *, at: float, rung: int, usd: float) -> Event:
    """What became of a trial after a segment: `rung` is where it stands then, `usd` what the segment was booked at.

    For those who read the journal. A replay decides again, so journals without decisions are as good to go on from.
    """
    data = {"trial_id": trial_id, "action": decision.action, "reason": decision.reason, "rung": rung, "usd": usd}
    return Event(kind="decision", at=at, data=data)
