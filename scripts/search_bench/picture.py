"""The picture: how good the best model was, when that much had been billed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from bench_files import panels

from search_bench.policies import OURS, OURS_WARM, POLICY_NAMES, REFERENCE
from search_bench.report import policies_of, short_task
from search_bench.runs import Results, Run, TaskFacts

Floats = npt.NDArray[np.float64]

NUM_POINTS = 120
FIRST_C = 0.1
PANELS_A_ROW = 5
STRONG = {OURS: "#d1495b", OURS_WARM: "#8f2d56", REFERENCE: "#6c757d"}
QUIET = (
    *("#c9a227", "#30638e", "#00a6a6", "#e07a1f", "#7b5ea7", "#8ab17d"),
    *("#4cc9f0", "#b08968", "#2b2d42", "#a7c957", "#d88bb4"),
)
"""Of different lightness, so that people who see no red or green can tell most apart."""


def draw(file: Path, results: Results, *, budget_c: float) -> None:
    """Median and quartiles over seeds of the best value so far, a panel a task; the file's name says which format."""
    tasks = sorted({run.task for run in results.runs})
    colours = _colours(policies_of(results.runs))
    below = "billed cost, in average full trainings (C)"
    with panels(file, len(tasks), a_row=PANELS_A_ROW, panel_inches=(3.1, 2.3), below=below) as axes:
        for axis, task in zip(axes, tasks, strict=True):
            runs = [run for run in results.runs if run.task == task]
            _panel(axis, results.tasks[task], runs, colours, budget_c)
            axis.set_title(short_task(task), fontsize=8, loc="left")


def _colours(policies: Sequence[str]) -> dict[str, str]:
    # By the place in the list of all, so that a policy keeps its colour from picture to picture.
    quiet = [policy for policy in POLICY_NAMES if policy not in STRONG]
    chosen = {policy: QUIET[number % len(QUIET)] for number, policy in enumerate(quiet)}
    # Ours is drawn last, on top.
    return {
        policy: {**chosen, **STRONG}[policy] for policy in sorted(policies, key=lambda name: name in (OURS, OURS_WARM))
    }


def _panel(axis: Any, facts: TaskFacts, runs: Sequence[Run], colours: dict[str, str], budget_c: float) -> None:
    sign = -1.0 if facts.direction == "maximize" else 1.0
    bills = np.geomspace(FIRST_C, budget_c, NUM_POINTS)
    shown = []
    for policy, colour in colours.items():
        mine = [run for run in runs if run.policy == policy]
        if not mine:
            continue
        values = sign * np.array([_best_at(bills, run) for run in mine])
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0, method="nearest")
        is_ours = policy in (OURS, OURS_WARM)
        axis.plot(bills, middle, color=colour, lw=2.0 if is_ours else 1.2, label=policy, zorder=3 if is_ours else 2)
        axis.fill_between(bills, low, high, color=colour, alpha=0.22 if is_ours else 0.10, lw=0)
        shown.append(middle)
    q99 = sign * facts.q99_loss
    axis.axhline(q99, color="black", lw=0.8, ls=(0, (4, 3)), zorder=1)
    axis.annotate("Q99", (FIRST_C * 1.1, q99), fontsize=7, va="bottom")
    axis.set_xscale("log")
    axis.set_xlim(FIRST_C, budget_c)
    axis.set_xticks([tick for tick in (0.1, 1, 10, 60) if tick <= budget_c], minor=False)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_ylim(*_limits(np.array(shown), bills, q99, sign))
    axis.set_ylabel(facts.metric.replace("_", " "), fontsize=7)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)


def _best_at(bills: Floats, run: Run) -> Floats:
    """The best loss when each bill had been run up; infinite before the first report."""
    if not run.trace:
        return np.full(len(bills), np.inf)
    billed, losses = np.array(run.trace).T
    return np.concatenate(([np.inf], losses))[np.searchsorted(billed, bills, side="right")]


def _limits(medians: Floats, bills: Floats, q99: float, sign: float) -> tuple[float, float]:
    """From what policies have after 1 C to the best of all: what comes before would press the rest flat."""
    late = medians[:, np.searchsorted(bills, 1.0) :]
    finite = late[np.isfinite(late)]
    best, worst = sign * (sign * finite).min(), np.median(sign * np.array([line[0] for line in late])) * sign
    if not np.isfinite(worst):
        worst = sign * (sign * finite).max()
    best = sign * min(sign * best, sign * q99)
    margin = 0.08 * abs(best - worst) or 1.0
    low, high = min(best, worst) - margin, max(best, worst) + margin
    return float(low), float(high)
