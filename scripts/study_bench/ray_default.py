"""Ray Tune as its guides pair it: `ASHAScheduler` with `OptunaSearch` (TPE), over the same families.

The space is one tree: a family, then that family's own axes. A trial is scored after each unit that it is trained, and
ASHA counts its progress in `NUM_STEPS` to a whole training, so that rungs are at the same share of each family's units
(a set of 20 rounds of boosting of 27, two epochs of 54). Where Ray leaves something open we took what is kinder to it:
no checkpoints, loggers or snapshots are written, a trial's best report counts and not its last, a tree, which grows
anew for each score, is scored at the rungs only, and what a search does not have ready in time costs it nothing.
"""

from __future__ import annotations

import io
import logging
import os
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import optuna
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from mlcluster.spec import ChoiceDomain, Domain, FloatDomain, Value, default_configuration
from mlcluster.train import FAMILIES
from study_bench.ray_learner import GRACE_PERIOD, NUM_STEPS, REDUCTION_FACTOR, LearnerTrainable
from study_bench.task import SearchTask
from study_bench.trace import Found, Report


def run_ray_default(task: SearchTask) -> Found:
    """With all else that Ray Tune does where nothing is said: a process for each trial."""
    return _run(task, reuse_actors=False, first=[])


def run_ray_careful(task: SearchTask) -> Found:
    """By someone who knows that processes take seconds to start, and tries each family's defaults first."""
    first: list[dict[str, Value]] = []
    for name in task.dataset.families:
        configuration = default_configuration(FAMILIES[name].space)
        first.append({"family": name, **{f"{name}/{axis}": value for axis, value in configuration.items()}})
    return _run(task, reuse_actors=True, first=first)


def _run(task: SearchTask, *, reuse_actors: bool, first: list[dict[str, Value]]) -> Found:
    _quiet()
    dataset, money = task.dataset, task.money
    trainable = tune.with_parameters(LearnerTrainable, data=dataset.training, metric=dataset.metric)
    recorder = _Recorder()
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            num_samples=-1,
            time_budget_s=money.seconds,
            max_concurrent_trials=money.num_workers,
            reuse_actors=reuse_actors,
            search_alg=OptunaSearch(
                space=JointSpace(dataset.families, task.seed),
                metric="loss",
                mode="min",
                seed=task.seed,
                points_to_evaluate=first,
            ),
            scheduler=ASHAScheduler(
                time_attr="step",
                metric="loss",
                mode="min",
                max_t=NUM_STEPS,
                grace_period=GRACE_PERIOD,
                reduction_factor=REDUCTION_FACTOR,
            ),
        ),
        run_config=tune.RunConfig(
            storage_path=str(task.folder.resolve()),
            verbose=0,
            callbacks=[recorder],
            # Where nothing is said, classes write one at the end and functions do not.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    # Tune prints where its own files lie.
    with redirect_stdout(io.StringIO()):
        results = tuner.fit()
    seconds = min(time.time() - recorder.started, money.seconds)
    return Found(reports=recorder.reports, seconds=seconds, num_trials=len(results), num_failed=len(results.errors))


@dataclass(frozen=True)
class JointSpace:
    """Define-by-run: the family first, and then the axes of that family alone, as `family/axis`.

    Not a closure, for Tune pickles it.
    """

    families: tuple[str, ...]
    seed: int

    def __call__(self, trial: optuna.Trial) -> dict[str, Value]:
        name = trial.suggest_categorical("family", self.families)
        for axis, domain in FAMILIES[name].space.items():
            _suggest(trial, f"{name}/{axis}", domain)
        # scikit-learn takes seeds of 32 bits.
        return {"seed": (self.seed * 100_003 + trial.number) % 2**32}


def _suggest(trial: optuna.Trial, name: str, domain: Domain) -> None:
    if isinstance(domain, ChoiceDomain):
        trial.suggest_categorical(name, domain.options)
    elif isinstance(domain, FloatDomain):
        trial.suggest_float(name, domain.low, domain.high, log=domain.log)
    else:
        trial.suggest_int(name, domain.low, domain.high, log=domain.log)


class _Recorder(tune.Callback):  # type: ignore[misc]
    """Notes each report at the moment at which the driver has it."""

    def __init__(self) -> None:
        self.started = time.time()
        self.reports: list[Report] = []

    def on_trial_result(
        self,
        iteration: int,  # noqa: ARG002 - Tune's signature
        trials: Any,  # noqa: ARG002
        trial: Any,
        result: Mapping[str, Any],
        **info: Any,  # noqa: ARG002
    ) -> None:
        family = trial.config["family"]
        self.reports.append(
            Report(
                seconds=time.time() - self.started,
                validation=result["value"],
                trial=trial.trial_id,
                family=family,
                configuration=dict(trial.config[family]),
                seed=trial.config["seed"],
                units=result["units"],
            )
        )


def _quiet() -> None:
    """What our own runner sets as well, so that neither writes files for each trial."""
    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_GLOBAL_CHECKPOINT_S": "3600"}
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
