"""Runs a study on Ray Tune: a Searcher that asks for workers, and a TrialScheduler that hands each its next piece.

A Tune trial here is a worker and lasts as long as its process; its step trains one piece: a segment, from a trial's
checkpoint to the units that the policy asked for, or several that are trained as one. Were each of our trials one of
Tune's, every one would cost a pause, a reset and a restore of an actor, and 11 KB in each of Tune's snapshots. The
Searcher and the TrialScheduler both put Tune's questions to one `Dispatcher`, and that to the `Study`; nothing is
decided here. Checkpoints are the study's own files, so Tune's carry nothing.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from mlcluster.errors import ClusterError
from mlcluster.train import FAMILIES
from mlcluster.tune.ray_dispatcher import MAX_STILLBORN, Dispatcher, Progress
from mlcluster.tune.ray_trainable import PieceTrainable, Trainer, TrainerTogether
from mlcluster.tune.releases import KeepAll
from mlcluster.tune.result import StudyResult
from mlcluster.tune.study import Study


def run_study_on_ray(
    study: Study,
    trainer: Trainer,
    *,
    folder: Path,
    progress: Progress,
    together: TrainerTogether | None = None,
    nodes: KeepAll | None = None,
) -> StudyResult:
    """Drives `study` to its end on the connected Ray cluster, each slot with the resources of its kind.

    `trainer` runs in the workers (it is sent once, through the object store), and so does `together`, for several
    segments as one; without it they are trained one after the other. `progress` is called after each event.
    `nodes` are told what is trained where, tell what they cost, and are given up where they are not needed.

    Raises:
        ClusterError: no worker comes up. What the nodes have cost is on the bill.
    """
    _quiet_tune()
    study.pay_for_workers()
    nodes = nodes or KeepAll()
    dispatcher = Dispatcher(study, progress, nodes)
    trainable = tune.with_resources(_with_parameters(study, trainer, together), _resources_by_worker(study))
    # Tune prints where its own files lie, on the stdout that belongs to the result.
    with redirect_stdout(io.StringIO()):
        _tuner(study, dispatcher, trainable, folder).fit()
    study.end_overdue()
    result = study.finish()
    nodes.end()
    if dispatcher.is_hopeless:
        raise ClusterError(
            f"{MAX_STILLBORN} workers ended while they started, and none came up; see Ray's worker logs."
        )
    return result


def _quiet_tune() -> None:
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "3600")
    # Tune's snapshots are for a restore that is never asked for.
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")
    # A lost worker is a line of ours, with what becomes of the trial; Tune would add a traceback and a list.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)


def _tuner(study: Study, dispatcher: Dispatcher, trainable: Any, folder: Path) -> tune.Tuner:
    """Ray Tune, which asks the dispatcher what each worker does next."""
    return tune.Tuner(
        trainable,
        param_space={},
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            num_samples=-1,
            search_alg=_WorkerSearcher(dispatcher),
            scheduler=_PieceScheduler(dispatcher),
            max_concurrent_trials=study.plan.budget.num_slots,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name=study.plan.study_id,
            storage_path=str(folder.resolve()),
            stop=_StopWhenDone(dispatcher),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )


def _with_parameters(study: Study, trainer: Trainer, together: TrainerTogether | None) -> Any:
    known = tuple(name for name in study.plan.spaces if name in FAMILIES)
    # As one object: both hold the data, which is to be sent and kept once.
    return tune.with_parameters(PieceTrainable, trainers=(trainer, together), families=known)


def _resources_by_worker(study: Study) -> Callable[[Mapping[str, Any]], tune.PlacementGroupFactory]:
    by_kind = {kind.name: dict(kind.resources) for kind in study.plan.budget.kinds}
    return lambda config: tune.PlacementGroupFactory([by_kind[config["worker"]]])


class _WorkerSearcher(Searcher):
    """Asks Tune for a worker while the study may have something for it; how many there are at most, Tune knows."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        super().__init__(metric="loss", mode="min")
        self._dispatcher = dispatcher

    def suggest(self, trial_id: str) -> Any:
        if self._dispatcher.is_done:
            return Searcher.FINISHED
        worker = self._dispatcher.ask_for_worker(trial_id)
        return None if worker is None else {"worker": worker}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing to do: the scheduler has told the study."""

    def save(self, checkpoint_path: str) -> None:
        """An empty file, which Tune expects; the study keeps its own journal."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the study keeps its own journal."""


class _PieceScheduler(FIFOScheduler):
    """Sends each worker on with its next piece, as soon as there is one."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        super().__init__()
        self._dispatcher = dispatcher

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:  # noqa: ARG002
        return self._dispatcher.report(trial, result)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002
        self._dispatcher.lose(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        # An idle worker is kept as it is, for Tune ends all but one of those that are paused. Tune has no public word
        # for "its next step now": its own schedulers call the controller's underscored methods as well.
        for trial in self._dispatcher.pop_employed():
            tune_controller._schedule_trial_train(trial)
        for trial in self._dispatcher.pop_released():
            tune_controller.stop_trial(trial)  # its queue for such requests is never read
        return None  # those that have not begun, Tune starts by itself


class _StopWhenDone(Stopper):
    """Ends the experiment, idle workers included, once the study has nothing left to do."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002 - Tune's signature
        return False

    def stop_all(self) -> bool:
        return self._dispatcher.is_done
