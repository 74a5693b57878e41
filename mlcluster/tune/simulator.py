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
    segment: Segment
    report: TrialReport | None


def simulate_study(study: Study, training: Training, clock: VirtualClock) -> StudyResult:
    """Drives `study` to its end on its slots; workers take up their next segment at once."""
    queue: list[_Completion] = []
    sequence = 0
    while True:
        while study.num_running < study.plan.budget.num_slots and (segment := study.next_segment()) is not None:
            report = training(segment)
            seconds = segment.deadline - clock.now if report is None else min(report.seconds, segment.limit_seconds)
            heapq.heappush(queue, _Completion(clock.now + seconds, sequence, segment, report))
            sequence += 1
        if not queue:
            return study.finish()
        done = heapq.heappop(queue)
        clock.now = done.at
        if done.report is None:
            study.lose(done.segment.trial_id, "its worker was lost")
        else:
            study.report(done.report)
