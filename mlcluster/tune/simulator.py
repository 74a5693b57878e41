"""Runs a study on a virtual clock: same decisions, no training, no waiting.

For forecasts, for tests of money and crashes, and to compare policies on recorded curves.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

from mlcluster.train import Segment, TrialReport
from mlcluster.tune.result import StudyResult
from mlcluster.tune.study import Study

Training = Callable[[Segment], TrialReport | None]
"""What a segment would report, its virtual seconds included; None where its worker is lost at the limit."""
TrainingTogether = Callable[[tuple[Segment, ...]], tuple[TrialReport, ...] | None]
"""The same of several that are trained as one; their seconds add up to those that pass."""


class VirtualClock:
    """Seconds since the epoch that pass only when told to."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass(order=True, frozen=True, slots=True)
class _Completion:
    at: float
    sequence: int
    piece: tuple[Segment, ...]
    reports: tuple[TrialReport, ...] | None


def simulate_study(
    study: Study, training: Training, clock: VirtualClock, *, together: TrainingTogether | None = None
) -> StudyResult:
    """Drives `study` to its end on its slots; workers take up their next piece at once.

    Without `together`, the segments of a piece are trained one after the other.
    """
    train = _one_by_one(training) if together is None else _few_or_one(training, together)
    queue: list[_Completion] = []
    sequence = 0
    while True:
        while piece := study.next_piece():
            reports = train(piece)
            ends_at = clock.now + _seconds(piece, reports, clock.now)
            heapq.heappush(queue, _Completion(ends_at, sequence, piece, reports))
            sequence += 1
        if not queue:
            return study.finish()
        done = heapq.heappop(queue)
        clock.now = done.at
        if done.reports is None:
            study.lose(done.piece[0].trial_id, "its worker was lost")
        for report in done.reports or ():
            study.report(report)


def _seconds(piece: tuple[Segment, ...], reports: tuple[TrialReport, ...] | None, now: float) -> float:
    """How long a worker has a piece, which it never has for longer than was paid for."""
    if reports is None:
        return piece[0].deadline - now
    return min(sum(report.seconds for report in reports), piece[0].limit_seconds)


def _one_by_one(training: Training) -> TrainingTogether:
    def train(piece: tuple[Segment, ...]) -> tuple[TrialReport, ...] | None:
        reports = [training(segment) for segment in piece]
        return None if None in reports else tuple(report for report in reports if report is not None)

    return train


def _few_or_one(training: Training, together: TrainingTogether) -> TrainingTogether:
    alone = _one_by_one(training)
    return lambda piece: together(piece) if len(piece) > 1 else alone(piece)
