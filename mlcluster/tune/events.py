"""What the journal's events hold: suggestions and reports as plain JSON, and back."""

from __future__ import annotations

from dataclasses import asdict

from mlcluster.search import Candidate, Suggestion
from mlcluster.train import TrialReport
from mlcluster.tune.journal import Event

_BESIDE_A_SUGGESTION = ("piece", "limit_seconds", "expected_seconds")
_BESIDE_A_REPORT = ("usd_so_far", "elapsed")


def start_event(
    suggestion: Suggestion, *, piece: str, at: float, limit_seconds: float, expected_seconds: float
) -> Event:
    """A segment begins, in the piece that is led by the trial `piece` (its own, where it is trained alone)."""
    beside = {"piece": piece, "limit_seconds": limit_seconds, "expected_seconds": expected_seconds}
    return Event(kind="start", at=at, data={**asdict(suggestion), **beside})


def piece_of(event: Event) -> str:
    """The trial that leads the piece of a start event; in journals from before there were pieces, the trial itself."""
    return str(event.data.get("piece", event.data["trial_id"]))


def suggestion_of(event: Event) -> Suggestion:
    """What a start event carries out."""
    fields = {key: value for key, value in event.data.items() if key not in _BESIDE_A_SUGGESTION}
    return Suggestion(**{**fields, "candidate": Candidate(**fields["candidate"])})


def report_event(report: TrialReport, *, at: float, usd_so_far: float, elapsed_seconds: float) -> Event:
    """A segment has reported; dollars and seconds are the study's until then."""
    return Event(kind="report", at=at, data={**report.to_json(), "usd_so_far": usd_so_far, "elapsed": elapsed_seconds})


def report_of(event: Event) -> TrialReport:
    """What a report event holds."""
    return TrialReport.from_json({key: value for key, value in event.data.items() if key not in _BESIDE_A_REPORT})
