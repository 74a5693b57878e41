"""Several pieces of training as one: the members of a batch on one worker, each with a report of its own.

Who may train together and whether that saves anything is the family's to say (`Family.together`); a member leaves when
its units are done. The seconds of the whole are split among those that were in training, by the work that each would
have been alone, so that the members' seconds (and with them their dollars) add up to the worker's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations

from mlcluster.train.families import FAMILIES
from mlcluster.train.learner import DataSize, Family, Learner, LearnerBatch, Span, TrainingData
from mlcluster.train.metrics import METRICS
from mlcluster.train.session import (
    Checkpoints,
    CurvePoint,
    Pace,
    Segment,
    TrialReport,
    load_learner,
    run_segment,
    save_learner,
)

LEAST_SAVING_SHARE = 0.1
"""Trainings are joined where that is expected to save this share at least; estimates are hardly better than that."""

SpansCost = Callable[[Sequence[Span]], float]
"""Nominal seconds of trainings as one batch, or of one alone; infinite where they cannot be one."""


def is_cheaper_together(cost: SpansCost, first: Sequence[Span], second: Sequence[Span]) -> bool:
    """Whether two trainings (or batches of them) are worth joining to one."""
    return cost([*first, *second]) < (1 - LEAST_SAVING_SHARE) * (cost(first) + cost(second))


def best_grouping(cost: SpansCost, spans: Sequence[Span]) -> list[tuple[int, ...]]:
    """Which of `spans` to train together, as indices; whoever is cheaper alone is a group of one.

    Agglomerative: the two groups whose joining saves most become one, until no joining saves enough.
    """

    def members(group: tuple[int, ...]) -> list[Span]:
        return [spans[index] for index in group]

    @cache
    def saving(left: tuple[int, ...], right: tuple[int, ...]) -> float:
        if not is_cheaper_together(cost, members(left), members(right)):
            return 0.0
        return cost(members(left)) + cost(members(right)) - cost(members(left + right))

    groups: list[tuple[int, ...]] = [(index,) for index in range(len(spans))]
    while len(groups) > 1:
        left, right = max(combinations(groups, 2), key=lambda pair: saving(*pair))
        if saving(left, right) <= 0:
            break
        groups = [left + right if group is left else group for group in groups if group is not right]
    return [tuple(sorted(group)) for group in groups]


def run_segments(
    segments: Sequence[Segment],
    data: TrainingData,
    checkpoints: Checkpoints,
    *,
    metric: str,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[TrialReport, ...]:
    """Trains segments of one family together, like `run_segment` each; reports in their order.

    The tightest limit holds for all. A report's seconds are its share: together they are those that passed.
    """
    if len(segments) == 1:
        return (run_segment(segments[0], data, checkpoints, metric=metric, clock=clock),)
    family = FAMILIES[segments[0].family]
    assert all(segment.family == family.name for segment in segments), "a batch is of one family"
    pace = Pace(started=clock(), limit_seconds=min(segment.limit_seconds for segment in segments))
    split = _SplitTime(clock, started=pace.started)
    size = data.size(family.encoding)
    members = [_Member.of(segment, load_learner(segment, data, checkpoints), family, size) for segment in segments]
    split.among(members)
    training = _Training(family, data, metric, pace, split)
    while training.goes_on and (active := [member for member in members if member.units_left]):
        training.train(active)
    names = [save_learner(member.segment, member.learner, checkpoints) for member in members]
    split.among(members)
    return tuple(member.report(metric, name) for member, name in zip(members, names, strict=True))


@dataclass(kw_only=True, slots=True, eq=False)
class _Member:
    segment: Segment
    learner: Learner
    weight: float
    """Nominal seconds of one of its units, were it alone."""
    seconds: float = 0.0
    curve: list[CurvePoint] = field(default_factory=list)

    @classmethod
    def of(cls, segment: Segment, learner: Learner, family: Family, size: DataSize) -> _Member:
        return cls(segment=segment, learner=learner, weight=family.nominal_seconds(segment.configuration, size, 1))

    @property
    def units_left(self) -> int:
        return self.segment.stop_units - self.learner.units

    def report(self, metric: str, checkpoint: str) -> TrialReport:
        return TrialReport.of(self.segment.trial_id, metric, self.curve, seconds=self.seconds, checkpoint=checkpoint)


class _SplitTime:
    """Splits the seconds since it was last asked among members, by their weights."""

    def __init__(self, clock: Callable[[], float], *, started: float) -> None:
        self._clock = clock
        self._last = started

    def among(self, members: Sequence[_Member]) -> float:
        """The moment until which seconds are split now."""
        now = self._clock()
        whole = sum(member.weight for member in members)
        for member in members:
            member.seconds += (now - self._last) * member.weight / whole
        self._last = now
        return now


class _Training:
    """Trains members unit by unit, scoring the validation split after each, while the limit allows one more."""

    def __init__(self, family: Family, data: TrainingData, metric: str, pace: Pace, split: _SplitTime) -> None:
        assert family.together is not None, f"{family.name} is trained one at a time"
        self._build: Callable[[Sequence[Learner]], LearnerBatch] = family.together.build
        self._validation = data.validation[family.encoding]
        self._measure = METRICS[metric].compute
        self._pace = pace
        self._split = split
        self.goes_on = True

    def train(self, members: Sequence[_Member]) -> None:
        """Until the first of them has all its units."""
        batch = self._build([member.learner for member in members])
        now = self._split.among(members)
        for _ in range(min(member.units_left for member in members)):
            self.goes_on = self._pace.has_room(now)
            if not self.goes_on:
                break
            now = self._train_unit(batch, members, now)
        batch.release()

    def _train_unit(self, batch: LearnerBatch, members: Sequence[_Member], before: float) -> float:
        batch.advance()
        scores = batch.scores(self._validation.features)
        values = [float(self._measure(self._validation.targets, of_one)) for of_one in scores]
        now = self._split.among(members)
        self._pace.note(now - before)
        for member, value in zip(members, values, strict=True):
            member.curve.append(CurvePoint(units=member.learner.units, value=value, seconds=member.seconds))
        return now
