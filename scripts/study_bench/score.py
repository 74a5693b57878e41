"""From runs to the figures that compare policies: quartiles over seeds, and dollars to the same score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlcluster.train import METRICS
from study_bench.runs import Run
from study_bench.trace import best_at, usd_to_reach


@dataclass(frozen=True, kw_only=True, slots=True)
class Quartiles:
    """Over seeds, from the worse to the better; None where so many runs had nothing."""

    worse: float | None
    median: float | None
    better: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reached:
    """How soon one policy was as good as another's median is at the end."""

    validation: float
    """That median."""
    usd_shares: Quartiles
    """Of the budget, over seeds."""
    num_reached: int
    num_runs: int


def runs_of(runs: Sequence[Run], dataset: str, policy: str) -> list[Run]:
    return [run for run in runs if (run.dataset, run.policy) == (dataset, policy)]


def quartiles(values: Sequence[float | None], direction: str) -> Quartiles:
    """A run without a value is worse than any."""
    sign = -1.0 if direction == "maximize" else 1.0
    losses = np.array([math.inf if value is None else sign * value for value in values])
    # Between a number and infinity there is nothing to interpolate.
    method = "linear" if np.isfinite(losses).all() else "higher"
    found = [None] * 3 if not len(losses) else np.quantile(losses, [0.75, 0.5, 0.25], method=method).tolist()  # type: ignore[call-overload]
    plain = [None if loss is None or math.isinf(loss) else sign * loss for loss in found]
    return Quartiles(worse=plain[0], median=plain[1], better=plain[2])


def scores_at(runs: Sequence[Run], usd: float, metric: str, *, split: str) -> Quartiles:
    """Of the models that were best on validation when that much had been spent, on `validation` or `test`."""
    best = [best_at(run.trace, usd) for run in runs]
    values = [None if one is None else getattr(one, split) for one in best]
    return quartiles(values, METRICS[metric].direction)


def reached(mine: Sequence[Run], theirs: Sequence[Run], metric: str, *, budget_usd: float) -> Reached | None:
    """How soon my runs were as good on validation as the median of theirs is at the end; None where they have none."""
    goal = scores_at(theirs, budget_usd, metric, split="validation").median
    if goal is None or not mine:
        return None
    spent = [usd_to_reach(run.trace, goal, metric) for run in mine]
    shares = [None if usd is None else usd / budget_usd for usd in spent]
    return Reached(
        validation=goal,
        usd_shares=quartiles(shares, "minimize"),
        num_reached=sum(share is not None for share in shares),
        num_runs=len(mine),
    )
