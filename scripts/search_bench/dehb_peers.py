"""DEHB (Awad et al., IJCAI 2021) through its own ask and tell.

DEHB knows no checkpoints. A configuration that it sends to a higher fidelity goes on where it stood, which is kinder
than training it anew.
"""

from __future__ import annotations

import tempfile
from typing import Any

from ConfigSpace import (
    CategoricalHyperparameter,
    ConfigurationSpace,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)
from dehb import DEHB

from mlcluster.spec import ChoiceDomain, Domain, FloatDomain
from mlcluster.tune import Piece, PieceOutcome
from search_bench.draws import as_configuration
from search_bench.task import PolicyTask

REDUCTION_FACTOR = 3
"""DEHB's default."""


class Dehb:
    """Differential evolution on the rungs of Hyperband, fidelities rounded to whole epochs."""

    def __init__(self, task: PolicyTask) -> None:
        self._task = task
        space = ConfigurationSpace(seed=task.seed)
        space.add([_hyperparameter(name, domain) for name, domain in task.space.items()])
        with tempfile.TemporaryDirectory() as folder:  # where it would keep checkpoints, were it to write any
            self._optimizer = DEHB(
                cs=space,
                min_fidelity=1,
                max_fidelity=task.max_epochs,
                eta=REDUCTION_FACTOR,
                seed=task.seed,
                n_workers=1,  # of its own; ours ask
                save_freq=None,
                output_path=folder,
                log_level="ERROR",
            )
        self._jobs: dict[str, dict[str, Any]] = {}
        self._epochs: dict[str, int] = {}
        self._num_anew = 0

    def ask(self, *, room_seconds: float) -> Piece:  # noqa: ARG002
        job = self._optimizer.ask()
        stop = min(max(1, round(float(job["fidelity"]))), self._task.max_epochs)
        trial_id = str(job["config_id"])
        if trial_id in self._jobs or self._epochs.get(trial_id, 0) >= stop:
            # It wants the same once more; as a training of its own.
            self._num_anew += 1
            trial_id = f"{trial_id}/{self._num_anew}"
        self._jobs[trial_id] = job
        start = self._epochs.get(trial_id, 0)
        self._epochs[trial_id] = stop
        return Piece(
            trial_id=trial_id,
            configuration=as_configuration(self._task.space, dict(job["config"])),
            start_units=start,
            stop_units=stop,
        )

    def tell(self, trial_id: str, outcome: PieceOutcome) -> None:
        result = {"fitness": float(outcome.losses[-1]), "cost": float(outcome.elapsed_seconds[-1])}
        self._optimizer.tell(self._jobs.pop(trial_id), result)


def _hyperparameter(name: str, domain: Domain) -> Any:
    if isinstance(domain, ChoiceDomain):
        return CategoricalHyperparameter(name, list(domain.options))
    kind = UniformFloatHyperparameter if isinstance(domain, FloatDomain) else UniformIntegerHyperparameter
    return kind(name, domain.low, domain.high, log=domain.log)
