"""The picture: how good the best model was on validation, when that many dollars had been spent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench_files import panels

from mlcluster.train import METRICS
from study_bench.report import datasets_of, policies_of
from study_bench.runs import OURS, RAY_CAREFUL, RAY_DEFAULT, Results
from study_bench.score import Quartiles, runs_of, scores_at

NUM_POINTS = 160
FIRST_SHARE = 0.01
"""Of the budget, where the axis begins."""
LATE_SHARE = 0.1
"""What lies before is not looked at for the vertical axis: it would press the rest flat."""
PANELS_A_ROW = 2
COLOURS = {OURS: "#d1495b", RAY_DEFAULT: "#30638e", RAY_CAREFUL: "#c9a227"}


def draw(file: Path, results: Results, *, budget_usd: float) -> None:
    """Median and quartiles over seeds, a panel a data set; the file's name says which format."""
    names = datasets_of(results.runs)
    below = "dollars, all workers from the first second on"
    with panels(file, len(names), a_row=PANELS_A_ROW, panel_inches=(4.4, 2.9), below=below) as axes:
        for axis, name in zip(axes, names, strict=True):
            _panel(axis, results, name, budget_usd)


def _panel(axis: Any, results: Results, name: str, budget_usd: float) -> None:
    metric = results.datasets[name].metric
    dollars = np.geomspace(FIRST_SHARE * budget_usd, budget_usd, NUM_POINTS)
    late: list[float] = []
    for policy in policies_of(results.runs):
        runs = runs_of(results.runs, name, policy)
        if not runs:
            continue
        found = [scores_at(runs, usd, metric, split="validation") for usd in dollars]
        worse, median, better = (_line(found, part) for part in ("worse", "median", "better"))
        axis.plot(dollars, median, color=COLOURS[policy], lw=1.8, label=policy)
        axis.fill_between(dollars, worse, better, color=COLOURS[policy], alpha=0.18, lw=0)
        late += [*worse[dollars >= LATE_SHARE * budget_usd], *better[-1:]]
    axis.set_xscale("log")
    axis.set_xlim(dollars[0], dollars[-1])
    _limit(axis, np.array(late), metric)
    axis.set_title(name, fontsize=9, loc="left")
    axis.set_ylabel(f"validation {metric}", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)


def _line(found: Sequence[Quartiles], part: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    values = [getattr(one, part) for one in found]
    return np.array([np.nan if value is None else value for value in values])


def _limit(axis: Any, late: np.ndarray[Any, np.dtype[np.float64]], metric: str) -> None:
    late = late[np.isfinite(late)]
    if not len(late):
        return
    # The worst of what came late may be one unlucky start; the best is what the picture is about.
    is_up = METRICS[metric].direction == "maximize"
    low, high = (np.quantile(late, 0.02), late.max()) if is_up else (late.min(), np.quantile(late, 0.98))
    margin = 0.06 * (high - low) or 0.01
    axis.set_ylim(low - margin, high + margin)
