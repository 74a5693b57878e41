"""From runs to the figures that compare policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search_bench.policies import REFERENCE
from search_bench.runs import Run

Floats = npt.NDArray[np.float64]

NUM_RESAMPLES = 2000
Q999_WITHIN_C = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """Cost to Q99 over the reference's: geometric mean over tasks of the ratio of medians over seeds."""

    mean: float
    low: float
    """Of a 95 % bootstrap interval over tasks and seeds."""
    high: float
    worst_task: str
    worst: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A line of the table. Shares are of all runs."""

    policy: str
    num_tasks: int
    num_seeds: int
    ratio: Ratio | None
    """None where the reference did not run on the same tasks and seeds."""
    q99_share: float
    q999_share: float
    """Q99.9 within 30 C."""
    max_billed_c: float
    median_decision_ms: float
    median_decision_seconds: float
    """Of all decisions of a run."""


def score_policy(policy: str, runs: Sequence[Run], *, budget_c: float, seed: int = 0) -> Score:
    """The figures of one policy, against the reference's among `runs`."""
    mine = [run for run in runs if run.policy == policy]
    tasks = sorted({run.task for run in mine})
    return Score(
        policy=policy,
        num_tasks=len(tasks),
        num_seeds=len({run.seed for run in mine}),
        ratio=_ratio(policy, runs, budget_c=budget_c, seed=seed),
        q99_share=float(np.mean([run.q99 is not None for run in mine])),
        q999_share=float(np.mean([run.q999 is not None and run.q999 <= Q999_WITHIN_C for run in mine])),
        max_billed_c=max(run.billed for run in mine),
        median_decision_ms=float(np.median([run.median_decision_ms for run in mine])),
        median_decision_seconds=float(np.median([run.decision_seconds for run in mine])),
    )


def median_cost_c(runs: Sequence[Run], policy: str, task: str, *, budget_c: float) -> float:
    """Median over seeds of the cost to Q99; a run that never arrives counts as the whole budget."""
    return float(
        np.median(_costs({run.seed: run for run in runs if (run.policy, run.task) == (policy, task)}, budget_c))
    )


def _costs(runs: dict[int, Run], budget_c: float) -> Floats:
    found = [runs[seed].q99 for seed in sorted(runs)]
    return np.array([budget_c if cost is None else cost for cost in found])


def _ratio(policy: str, runs: Sequence[Run], *, budget_c: float, seed: int) -> Ratio | None:
    by_task: dict[str, dict[str, dict[int, Run]]] = {}
    for run in runs:
        by_task.setdefault(run.task, {}).setdefault(run.policy, {})[run.seed] = run
    names, mine, theirs = [], [], []
    for task, found in sorted(by_task.items()):
        shared = found.get(policy, {}).keys() & found.get(REFERENCE, {}).keys()
        if shared:
            names.append(task)
            mine.append(_costs({number: found[policy][number] for number in shared}, budget_c))
            theirs.append(_costs({number: found[REFERENCE][number] for number in shared}, budget_c))
    if not names:
        return None
    logs = np.array([_log_ratio(*pair) for pair in zip(mine, theirs, strict=True)])
    means = _resampled_means(mine, theirs, seed=seed)
    worst = int(logs.argmax())
    return Ratio(
        mean=float(np.exp(logs.mean())),
        low=float(np.exp(np.quantile(means, 0.025))),
        high=float(np.exp(np.quantile(means, 0.975))),
        worst_task=names[worst],
        worst=float(np.exp(logs[worst])),
    )


def _log_ratio(mine: Floats, theirs: Floats) -> Floats:
    return np.log(np.median(mine, axis=-1) / np.median(theirs, axis=-1))


def _resampled_means(mine: list[Floats], theirs: list[Floats], *, seed: int) -> Floats:
    """Mean log ratios of bootstrap samples: tasks with replacement, then in each the seeds, in pairs."""
    rng = np.random.default_rng(seed)
    # For each task, as many resamples of its seeds as tasks may draw it: resample r takes row r.
    logs = np.stack(
        [
            _log_ratio(ours[picks], reference[picks])
            for ours, reference in zip(mine, theirs, strict=True)
            for picks in [rng.integers(len(ours), size=(NUM_RESAMPLES, len(ours)))]
        ],
        axis=1,
    )
    drawn = rng.integers(len(mine), size=(NUM_RESAMPLES, len(mine)))
    means: Floats = np.take_along_axis(logs, drawn, axis=1).mean(axis=1)
    return means
