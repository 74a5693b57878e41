"""Optuna's TPE with its HyperbandPruner, driven through a real study by ask and tell."""

from __future__ import annotations

from collections import deque

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from mlcluster.spec import ChoiceDomain, Domain, FloatDomain, SearchSpace
from mlcluster.tune import Piece, PieceOutcome
from search_bench.task import PolicyTask

REDUCTION_FACTOR = 3
"""HyperbandPruner's default."""


class OptunaStudy:
    """A study whose pruner is asked after each epoch, as `Trial.should_prune` in a training loop is."""

    def __init__(self, task: PolicyTask, pruner: optuna.pruners.BasePruner) -> None:
        quiet_optuna()
        self._max_epochs = task.max_epochs
        self._distributions = distributions(task.space)
        # HyperbandPruner hashes the study's name to choose a trial's bracket.
        self._study = optuna.create_study(
            study_name=str(task.seed), sampler=optuna.samplers.TPESampler(seed=task.seed), pruner=pruner
        )
        self._trials: dict[str, optuna.Trial] = {}
        self._epochs: dict[str, int] = {}
        self._going_on: deque[str] = deque()

    def ask(self, *, room_seconds: float) -> Piece:  # noqa: ARG002
        trial_id = self._going_on.popleft() if self._going_on else self._new_trial()
        start = self._epochs[trial_id]
        return Piece(
            trial_id=trial_id, configuration=self._trials[trial_id].params, start_units=start, stop_units=start + 1
        )

    def tell(self, trial_id: str, outcome: PieceOutcome) -> None:
        trial, loss = self._trials[trial_id], float(outcome.losses[-1])
        self._epochs[trial_id] += 1
        trial.report(loss, step=self._epochs[trial_id])
        if self._epochs[trial_id] == self._max_epochs:
            self._study.tell(trial, loss)
        elif trial.should_prune():
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._going_on.append(trial_id)

    def _new_trial(self) -> str:
        trial = self._study.ask(self._distributions)
        trial_id = str(trial.number)
        self._trials[trial_id] = trial
        self._epochs[trial_id] = 0
        return trial_id


def optuna_hyperband(task: PolicyTask) -> OptunaStudy:
    """TPE with HyperbandPruner."""
    pruner = optuna.pruners.HyperbandPruner(
        min_resource=1, max_resource=task.max_epochs, reduction_factor=REDUCTION_FACTOR
    )
    return OptunaStudy(task, pruner)


def optuna_default(task: PolicyTask) -> OptunaStudy:
    """TPE with MedianPruner: what a study has where nothing is chosen."""
    return OptunaStudy(task, optuna.pruners.MedianPruner())


def quiet_optuna() -> None:
    """No line a trial on the terminal."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The space in Optuna's words."""
    return {name: _distribution(domain) for name, domain in space.items()}


def _distribution(domain: Domain) -> BaseDistribution:
    if isinstance(domain, ChoiceDomain):
        return CategoricalDistribution(domain.options)
    if isinstance(domain, FloatDomain):
        return FloatDistribution(domain.low, domain.high, log=domain.log)
    return IntDistribution(domain.low, domain.high, log=domain.log)
