"""Puts a study back where its journal ends: what happened once happens to its course again, event by event."""

from __future__ import annotations

from collections.abc import Iterable

from mlcluster.tune.course import Course
from mlcluster.tune.events import piece_of, placement_of, report_of, suggestion_of
from mlcluster.tune.journal import Event
from mlcluster.tune.lines import Placed
from mlcluster.tune.piece import Piece
from mlcluster.tune.purse import Allowance
from mlcluster.tune.trial_books import Spent


def restore(course: Course, events: Iterable[Event]) -> None:
    """Puts the events of earlier drivers through the course; their money is in the ledger already."""
    for event in events:
        apply(course, event)


def apply(course: Course, event: Event) -> None:
    """One of them. A policy decides again, so decisions in the journal are passed over."""
    data = event.data
    match event.kind:
        case "start":
            _start(course, event)
        case "report":
            course.report(report_of(event), Spent(usd=float(data["usd_so_far"]), seconds=float(data["elapsed"])))
        case "lost":
            course.lose(str(data["trial_id"]))
        case "failed":
            course.fail(str(data["trial_id"]), str(data["error"]))
        case "interrupted":
            course.interrupt(str(data["trial_id"]))
        case "line":
            course.stand_in_line(Placed(suggestion=suggestion_of(event), placement=placement_of(event)))
        case "unline":
            course.leave_line(str(data["trial_id"]), int(data["units"]))
        case "begin" | "decision" | "end":
            pass


def _start(course: Course, event: Event) -> None:
    suggestion, leader = suggestion_of(event), piece_of(event)
    is_leader = leader == suggestion.trial_id
    new_piece = Piece(started_at=event.at, worker=placement_of(event).worker)
    piece = new_piece if is_leader else course.running[leader].piece
    course.accept(suggestion)
    allowance = Allowance(limit_seconds=event.data["limit_seconds"], deadline=event.at)
    course.start(piece, suggestion, allowance, float(event.data["expected_seconds"]))
