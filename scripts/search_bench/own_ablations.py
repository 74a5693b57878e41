"""Our policy without one of its parts, to see what each is worth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mlcluster.tune import AskTell
from search_bench.own import OwnPolicy, own_settings
from search_bench.task import PolicyTask


def no_curve_model(task: PolicyTask) -> AskTell:
    """New trials are even draws, and rank alone promotes."""
    return _changed(task, uses_model=False)


def one_cost(task: PolicyTask) -> AskTell:
    """All configurations are taken to cost the same; what growing costs show is still learnt."""
    return _changed(task, costs=replace(own_settings(task.max_epochs).costs, by_configuration=False))


def even_growth(task: PolicyTask) -> AskTell:
    """Each epoch of a training is taken to cost the same."""
    return _changed(task, costs=replace(own_settings(task.max_epochs).costs, learns_growth=False))


def no_cost_floor(task: PolicyTask) -> AskTell:
    """The cheapest configurations count as cheap as they are."""
    return _changed(task, costs=replace(own_settings(task.max_epochs).costs, floor_share=0.0))


def rungs_by_2(task: PolicyTask) -> AskTell:
    """Rungs twice as dense."""
    rungs = [1.0]
    while rungs[-1] * 2 < task.max_epochs:
        rungs.append(rungs[-1] * 2)
    return _changed(task, rungs_seconds=(*rungs, float(task.max_epochs)))


def high_first_rung(task: PolicyTask) -> AskTell:
    """The lowest rung left out."""
    return _changed(task, rungs_seconds=own_settings(task.max_epochs).rungs_seconds[1:])


def no_early_stop(task: PolicyTask) -> AskTell:
    """No rungs: each trial is trained to its end."""
    return _changed(task, rungs_seconds=(float(task.max_epochs),))


def no_guard(task: PolicyTask) -> AskTell:
    """Nothing goes on but by promise."""
    return _changed(task, guard=0)


def no_discount(task: PolicyTask) -> AskTell:
    """New trials are taken at what they promise."""
    return _changed(task, new_trial_discount=1.0)


def no_even_draws(task: PolicyTask) -> AskTell:
    """All new trials are the model's."""
    return _changed(task, random_share=0.0, random_share_of_twins=0.0)


def _changed(task: PolicyTask, **parts: Any) -> AskTell:
    return OwnPolicy(task, replace(own_settings(task.max_epochs), **parts))
