"""Earlier searches on other tasks, for policies that may use them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from mlcluster.tune import BenchmarkTask, SearchedTrial, SearchSettings, free_decisions, load_benchmark, simulate_search
from search_bench.halving import AshaPromotion
from search_bench.seeds import run_seed
from search_bench.task import PastStudy, PastTrial, PolicyTask


def past_studies(folder: Path, *, leave_out: str, seed: int, settings: SearchSettings) -> tuple[PastStudy, ...]:
    """One search by ASHA promotion on each task of the folder but `leave_out`, for the same money."""
    names = load_benchmark(folder).task_names
    return tuple(_past_study(folder, name, seed, settings) for name in names if name != leave_out)


@cache
def _past_study(folder: Path, name: str, seed: int, settings: SearchSettings) -> PastStudy:
    task = load_benchmark(folder).task(name)
    policy = AshaPromotion(
        PolicyTask(
            space=task.space,
            max_epochs=task.max_epochs,
            seed=run_seed(seed, name),
            num_workers=settings.num_workers,
        )
    )
    found = simulate_search(policy, task, settings, timer=free_decisions)
    return PastStudy(task=name, trials=tuple(_past_trial(task, trial) for trial in found.trials if trial.units))


def _past_trial(task: BenchmarkTask, trial: SearchedTrial) -> PastTrial:
    curve = task.curve(trial.configuration)
    # Copies: a slice would keep the whole curve alive.
    return PastTrial(
        configuration=trial.configuration,
        losses=curve.losses[: trial.units].copy(),
        seconds=curve.seconds[: trial.units].copy(),
    )
