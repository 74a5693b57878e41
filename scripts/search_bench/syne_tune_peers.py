"""Syne Tune's schedulers (0.16), called as its `Tuner` calls them.

Its ASHA stops by Ray's rule with reduction factor 3; a model of the last value of each trial proposes configurations.
"""

from __future__ import annotations

import datetime
import logging
from collections import deque
from typing import Any

import numpy as np
from syne_tune.backend.trial_status import Trial
from syne_tune.optimizer.baselines import ASHACQR, BOHB
from syne_tune.optimizer.scheduler import SchedulerDecision

from mlcluster.tune import Piece, PieceOutcome
from search_bench.draws import as_configuration
from search_bench.syne_tune_space import syne_tune_space
from search_bench.task import PolicyTask

_LONG_AGO = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
"""When trials began: Syne Tune keeps it in the record of a trial, and decides nothing by it."""


class SyneTune:
    """One scheduler; it is told each epoch as it comes."""

    def __init__(self, task: PolicyTask, scheduler: type) -> None:
        logging.getLogger("syne_tune").setLevel(logging.ERROR)
        np.random.seed(task.seed % 2**32)
        self._space = task.space
        self._max_epochs = task.max_epochs
        self._scheduler: Any = scheduler(
            syne_tune_space(task.space),
            metric="loss",
            time_attr="epoch",
            max_t=task.max_epochs,
            random_seed=task.seed % 2**31,
        )
        self._trials: list[Trial] = []
        self._epochs: list[int] = []
        self._going_on: deque[int] = deque()

    def ask(self, *, room_seconds: float) -> Piece | None:  # noqa: ARG002
        number = self._going_on.popleft() if self._going_on else self._new_trial()
        if number is None:
            return None
        return Piece(
            trial_id=str(number),
            configuration=as_configuration(self._space, self._trials[number].config),
            start_units=self._epochs[number],
            stop_units=self._epochs[number] + 1,
        )

    def tell(self, trial_id: str, outcome: PieceOutcome) -> None:
        number = int(trial_id)
        trial = self._trials[number]
        self._epochs[number] += 1
        result = {"loss": float(outcome.losses[-1]), "epoch": self._epochs[number]}
        if self._scheduler.on_trial_result(trial, result) == SchedulerDecision.CONTINUE:
            self._going_on.append(number)
        else:
            self._scheduler.on_trial_remove(trial)

    def _new_trial(self) -> int | None:
        suggestion = self._scheduler.suggest()
        if suggestion is None:
            return None
        number = len(self._trials)
        trial = Trial(trial_id=number, config=suggestion.config, creation_time=_LONG_AGO)
        self._scheduler.on_trial_add(trial)
        self._trials.append(trial)
        self._epochs.append(0)
        return number


def syne_bohb(task: PolicyTask) -> SyneTune:
    """Kernel densities, as in BOHB (Falkner et al., ICML 2018), with ASHA."""
    return SyneTune(task, BOHB)


def syne_cqr(task: PolicyTask) -> SyneTune:
    """Conformal quantile regression (Salinas et al., ICML 2023) with ASHA."""
    return SyneTune(task, ASHACQR)
