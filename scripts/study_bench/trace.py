"""From what a search reported to how good its best model was, when that much had been spent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mlcluster.spec import Value
from mlcluster.train import as_loss


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A score of a trial, at the moment (seconds since the search began) from which its search knew it."""

    seconds: float
    validation: float
    trial: str
    family: str
    configuration: Mapping[str, Value]
    seed: int
    """Of the trial's training: with it the same configuration gives the same model again."""
    units: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a search has come to."""

    reports: Sequence[Report]
    seconds: float
    """On the bill, idle workers included."""
    num_trials: int
    num_failed: int = 0
    """Trials whose training raised or whose worker was lost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Improvement:
    """A new best validation score, what all workers had cost until it was known, and the same model's test score."""

    usd: float
    seconds: float
    validation: float
    trial: str
    family: str
    units: int
    seed: int
    configuration: Mapping[str, Value] = field(default_factory=dict)
    test: float | None = None


def improvements_of(
    reports: Iterable[Report], metric: str, *, limit_seconds: float, usd_per_second: float
) -> list[Improvement]:
    """The reports that were better than all before them and came within the limit, oldest first."""
    found: list[Improvement] = []
    best = math.inf
    for report in sorted(reports, key=lambda one: one.seconds):
        loss = as_loss(metric, report.validation)
        if report.seconds > limit_seconds or not loss < best:
            continue
        best = loss
        found.append(
            Improvement(
                usd=report.seconds * usd_per_second,
                seconds=report.seconds,
                validation=report.validation,
                trial=report.trial,
                family=report.family,
                units=report.units,
                seed=report.seed,
                configuration=dict(report.configuration),
            )
        )
    return found


def with_tests(trace: Sequence[Improvement], tests: Mapping[tuple[str, int], float]) -> list[Improvement]:
    """The same with test scores, by trial and units."""
    return [replace(one, test=tests.get((one.trial, one.units))) for one in trace]


def best_at(trace: Sequence[Improvement], usd: float) -> Improvement | None:
    """The best when that much had been spent; None before the first score."""
    return next((one for one in reversed(trace) if one.usd <= usd), None)


def usd_to_reach(trace: Sequence[Improvement], validation: float, metric: str) -> float | None:
    """What had been spent when the best was first that good; None where it never was."""
    wanted = as_loss(metric, validation)
    return next((one.usd for one in trace if as_loss(metric, one.validation) <= wanted), None)
