"""Which trials are not beaten in everything at once: error, dollars, and milliseconds or seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mlcluster.train import Measured
from mlcluster.tune.story import TrialStory

ThirdAxis = Literal["p99_ms", "seconds"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ParetoPoint:
    """A trial, by three things of which less is better."""

    trial_id: str
    family: str
    value: float
    error: float
    """The metric as a loss."""
    usd: float
    third: float
    """Milliseconds of an answer at the 99th percentile, or seconds of training: see `ParetoFront.third_axis`."""
    is_on_front: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ParetoFront:
    """`points` are the trials that were compared, best error first."""

    points: tuple[ParetoPoint, ...]
    third_axis: ThirdAxis
    num_measured: int
    """Trials whose latency is known."""

    @property
    def front(self) -> tuple[ParetoPoint, ...]:
        return tuple(point for point in self.points if point.is_on_front)


def pareto_front(ranked: Sequence[TrialStory], measured: Mapping[str, Measured]) -> ParetoFront:
    """The front of trials with a score, in latency where at least two were measured, else in seconds of training."""
    known = [trial for trial in ranked if trial.trial_id in measured]
    axis: ThirdAxis = "p99_ms" if len(known) >= 2 else "seconds"
    compared = [
        (trial, trial.loss, measured[trial.trial_id].p99_ms if axis == "p99_ms" else trial.seconds)
        for trial in (known if axis == "p99_ms" else ranked)
        if trial.loss is not None and math.isfinite(trial.loss)
    ]
    costs = np.array([[loss, trial.usd, third] for trial, loss, third in compared], dtype=np.float64).reshape(-1, 3)
    points = tuple(
        ParetoPoint(
            trial_id=trial.trial_id,
            family=trial.family,
            value=math.nan if trial.value is None else trial.value,
            error=loss,
            usd=trial.usd,
            third=third,
            is_on_front=bool(is_on_front),
        )
        for (trial, loss, third), is_on_front in zip(compared, non_dominated(costs), strict=True)
    )
    return ParetoFront(points=points, third_axis=axis, num_measured=len(known))


def non_dominated(costs: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Rows of `costs` (n, d) that no other row beats: nowhere worse, and somewhere better. Equal rows all stay."""
    kept = np.ones(len(costs), dtype=np.bool_)
    for index, row in enumerate(costs):
        is_nowhere_worse = (costs <= row).all(axis=1)
        is_somewhere_better = (costs < row).any(axis=1)
        kept[index] = not (is_nowhere_worse & is_somewhere_better).any()
    return kept
