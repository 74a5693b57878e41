"""MOBSTER and Hyper-Tune of Syne Tune 0.14, the last version that has them: Gaussian processes over ASHA by promotion.

That version pins numpy below 2 and does not install beside ours. It runs where it is put without its pins, in an
environment of its own: `pip install --no-deps syne-tune==0.14.2 autograd dill statsmodels patsy xgboost`.
"""

from __future__ import annotations

import datetime
import logging
from typing import Any

from syne_tune.backend.trial_status import Trial
from syne_tune.optimizer.legacy_baselines import MOBSTER, HyperTune
from syne_tune.optimizer.scheduler import SchedulerDecision

from mlcluster.tune import Piece, PieceOutcome
from search_bench.draws import as_configuration
from search_bench.syne_tune_space import syne_tune_space
from search_bench.task import PolicyTask

_LONG_AGO = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class SyneTuneByPromotion:
    """One scheduler; a piece ends at the rung that its configuration names."""

    def __init__(self, task: PolicyTask, scheduler: type, **settings: Any) -> None:
        logging.getLogger("syne_tune").setLevel(logging.ERROR)
        self._space = task.space
        self._scheduler: Any = scheduler(
            {**syne_tune_space(task.space), "epochs": task.max_epochs},
            metric="loss",
            mode="min",
            resource_attr="epoch",
            max_resource_attr="epochs",
            type="promotion",
            grace_period=1,
            reduction_factor=3,
            random_seed=task.seed % 2**31,
            **settings,
        )
        self._trials: list[Trial] = []
        self._epochs: list[int] = []

    def ask(self, *, room_seconds: float) -> Piece | None:  # noqa: ARG002
        suggestion = self._scheduler.suggest(len(self._trials))
        if suggestion is None:
            return None
        if suggestion.spawn_new_trial_id:
            number, config = len(self._trials), suggestion.config
            self._trials.append(Trial(trial_id=number, config=config, creation_time=_LONG_AGO))
            self._epochs.append(0)
            self._scheduler.on_trial_add(self._trials[number])
        else:
            number = int(suggestion.checkpoint_trial_id)
            config = suggestion.config or self._trials[number].config
            self._trials[number] = Trial(trial_id=number, config=config, creation_time=_LONG_AGO)
        return Piece(
            trial_id=str(number),
            configuration=as_configuration(self._space, config),
            start_units=self._epochs[number],
            stop_units=int(config["epochs"]),
        )

    def tell(self, trial_id: str, outcome: PieceOutcome) -> None:
        number = int(trial_id)
        trial = self._trials[number]
        decision = SchedulerDecision.CONTINUE
        for loss in outcome.losses.tolist():
            self._epochs[number] += 1
            result = {"loss": loss, "epoch": self._epochs[number]}
            decision = self._scheduler.on_trial_result(trial, result)
        assert decision != SchedulerDecision.CONTINUE, f"{trial} is to go on beyond the rung it was sent to"
        self._scheduler.on_trial_remove(trial)


def syne_mobster(task: PolicyTask) -> SyneTuneByPromotion:
    """MOBSTER (Klein et al., 2020): one Gaussian process over configurations and epochs."""
    return SyneTuneByPromotion(task, MOBSTER)


def syne_hypertune(task: PolicyTask) -> SyneTuneByPromotion:
    """Hyper-Tune (Li et al., VLDB 2022): a Gaussian process a rung, weighted by how well it ranks; four brackets."""
    return SyneTuneByPromotion(task, HyperTune, brackets=4)
