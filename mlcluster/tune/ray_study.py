"""Runs a study on Ray Tune: a Searcher that asks for workers, and a TrialScheduler that hands each its next piece.

A Tune trial here is a worker and lasts as long as its process; its step trains one piece: a segment, from a trial's
checkpoint to the units that the policy asked for, or several that are trained as one. Were each of our trials one of
Tune's, every one would cost a pause, a reset and a restore of an actor, and 11 KB in each of Tune's snapshots. The
Searcher and the TrialScheduler both put Tune's questions to one `_Dispatcher`, and that to the `Study`; nothing is
decided here. Checkpoints are the study's own files, so Tune's carry nothing.
"""

from __future__ import annotations

import faulthandler
import io
import json
import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from mlcluster.cluster.ray_members import LeavingNodes
from mlcluster.cost import NoNodeLog
from mlcluster.errors import ClusterError
from mlcluster.spec import Device
from mlcluster.train import FAMILIES, Segment, TrialReport, warm_up
from mlcluster.tune.result import StudyResult
from mlcluster.tune.study import Study

log = logging.getLogger(__name__)

Trainer = Callable[[Segment], TrialReport]
TrainerTogether = Callable[[Sequence[Segment]], Sequence[TrialReport]]
Progress = Callable[[Study], None]
MAX_STILLBORN = 3
"""When that many workers have ended before they were up, and none came up, no other one will."""


def run_study_on_ray(
    study: Study,
    trainer: Trainer,
    *,
    folder: Path,
    progress: Progress,
    together: TrainerTogether | None = None,
    nodes: NoNodeLog | None = None,
) -> StudyResult:
    """Drives `study` to its end on the connected Ray cluster, each slot with the resources of its kind.

    `trainer` runs in the workers (it is sent once, through the object store), and so does `together`, for several
    segments as one; without it they are trained one after the other. `progress` is called after each event.
    `nodes` is told what is trained where, and tells what they cost.

    Raises:
        ClusterError: no worker comes up. What the nodes have cost is on the bill.
    """
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "3600")
    # Tune's snapshots are for a restore that is never asked for.
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")
    # A lost worker is a line of ours, with what becomes of the trial; Tune would add a traceback and a list.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    study.pay_for_workers()
    dispatcher = _Dispatcher(study, progress, nodes or NoNodeLog())
    trainable = tune.with_resources(_with_parameters(study, trainer, together), _resources_by_worker(study))
    tuner = tune.Tuner(
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
    # Tune prints where its own files lie, on the stdout that belongs to the result.
    with redirect_stdout(io.StringIO()):
        tuner.fit()
    study.end_overdue()
    result = study.finish()
    if dispatcher.is_hopeless:
        raise ClusterError(
            f"{MAX_STILLBORN} workers ended while they started, and none came up; see Ray's worker logs."
        )
    return result


def _with_parameters(study: Study, trainer: Trainer, together: TrainerTogether | None) -> Any:
    known = tuple(name for name in study.plan.spaces if name in FAMILIES)
    # As one object: both hold the data, which is to be sent and kept once.
    return tune.with_parameters(PieceTrainable, trainers=(trainer, together), families=known)


def _resources_by_worker(study: Study) -> Callable[[Mapping[str, Any]], tune.PlacementGroupFactory]:
    by_kind = {kind.name: dict(kind.resources) for kind in study.plan.budget.kinds}
    return lambda config: tune.PlacementGroupFactory([by_kind[config["worker"]]])


class PieceTrainable(tune.Trainable):
    """Trains one piece a step, inside a limit of seconds that holds whatever the training does."""

    def setup(
        self,
        config: dict[str, Any],
        trainers: tuple[Trainer, TrainerTogether | None],
        families: tuple[str, ...] = (),
    ) -> None:
        self._trainer, self._together = trainers
        self._piece: tuple[Segment, ...] = ()
        self._node_id = ray.get_runtime_context().get_node_id()
        _use_one_thread()
        try:
            warm_up(families, config["worker"])
        except ClusterError as error:
            log.warning("%s", error)  # whatever is trained here fails with the same words

    def hand(self, piece: tuple[Segment, ...]) -> None:
        """What the next step trains."""
        self._piece = piece

    def step(self) -> dict[str, Any]:
        return {"node_id": self._node_id, **self._step()}

    def _step(self) -> dict[str, Any]:
        piece, self._piece = self._piece, ()
        if not piece:
            return {"loss": math.inf}  # the first step: it is up, and may be handed something
        # A watchdog in C that asks neither the GIL nor the training: once what was paid for is used up the process is
        # gone, so that it never costs more than was reserved for it.
        paid_seconds = max(0.01, piece[0].deadline - time.time())
        faulthandler.dump_traceback_later(paid_seconds, exit=True, file=_devnull())
        try:
            reports = self._train(piece)
        except Exception as error:
            log.exception("training failed trial_id=%s", " ".join(segment.trial_id for segment in piece))
            return {"loss": math.inf, "error": f"{type(error).__name__}: {error}"}
        finally:
            faulthandler.cancel_dump_traceback_later()
        return {"loss": reports[0].loss, "reports": json.dumps([report.to_json() for report in reports])}

    def _train(self, piece: tuple[Segment, ...]) -> Sequence[TrialReport]:
        if len(piece) == 1 or self._together is None:
            return [self._trainer(segment) for segment in piece]
        return self._together(piece)


class _Dispatcher:
    """Hands pieces to workers that are up, so that none waits for a worker that may never come."""

    def __init__(self, study: Study, progress: Progress, nodes: NoNodeLog) -> None:
        self._study = study
        self._nodes = nodes
        self._progress = progress
        self._at_work: dict[str, tuple[Segment, ...]] = {}
        """What each worker trains, by Tune's trial id."""
        self._workers: dict[str, Device] = {}
        """The kind of each that was asked for and is not gone, by Tune's trial id."""
        self._idle: dict[str, Trial] = {}
        """Workers that are up with nothing to do."""
        self._kinds = study.plan.budget.kinds
        self._leaving = LeavingNodes()
        self._node_ids: dict[str, str] = {}
        """The machine of each worker that has been up, by Tune's trial id."""
        self._has_no_piece: set[Device] = set()
        """Kinds for which the study had nothing. Only a report, a loss or another kind's piece can change that, for
        time makes it no more."""
        self._up: set[Device] = set()
        """Kinds of which a worker has ever been up."""
        self._num_stillborn: Counter[Device] = Counter()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Dispatcher:
        """Tune copies its searcher and scheduler; both must go on sharing this one."""
        return self

    def __reduce__(self) -> Any:
        """Tune pickles them for a restore of its own, which is never asked for: the study has its journal."""
        return _nothing, ()

    @property
    def is_hopeless(self) -> bool:
        return all(kind.name in self._hopeless for kind in self._kinds)

    @property
    def _hopeless(self) -> set[Device]:
        """Kinds whose workers do not come up."""
        return {name for name, number in self._num_stillborn.items() if number >= MAX_STILLBORN} - self._up

    @property
    def _useless(self) -> set[Device]:
        """Kinds of which one more worker would do nothing."""
        return self._has_no_piece | self._hopeless

    @property
    def is_done(self) -> bool:
        self._study.reprice(self._nodes.usd_per_second)
        if self._at_work:
            return self._study.is_overdue
        if self.is_hopeless or all(kind.name in self._useless for kind in self._kinds):
            return True
        return not self._study.pay_for_workers()

    def ask_for_worker(self, tune_id: str) -> Device | None:
        """The kind of which one more may be of use, if there is such a kind, noted under Tune's id for it."""
        kinds, idle = list(self._workers.values()), {self._workers[name] for name in self._idle}
        for kind in self._kinds:
            if kind.name not in self._useless | idle and kinds.count(kind.name) < kind.num_slots:
                self._workers[tune_id] = kind.name
                return kind.name
        return None

    def report(self, trial: Trial, result: Mapping[str, Any]) -> str:
        """Takes what a worker has trained; gives Tune's word for what becomes of the worker."""
        self._up.add(self._workers[trial.trial_id])
        piece = self._at_work.pop(trial.trial_id, ())
        if piece:
            self._has_no_piece.clear()
            self._take_in(trial.trial_id, piece, result)
            self._progress(self._study)
        self._node_ids[trial.trial_id] = result["node_id"]
        if self._is_leaving(trial):
            log.info(
                "released a worker node_id=%s: its machine is to go, and what it trained is done", result["node_id"]
            )
            self._workers.pop(trial.trial_id)
            return str(TrialScheduler.STOP)
        if self._hand_next_piece(trial):
            return str(TrialScheduler.CONTINUE)
        self._idle[trial.trial_id] = trial
        return str(TrialScheduler.NOOP)

    def _is_leaving(self, trial: Trial) -> bool:
        """Whether its machine is to go soon: another piece might not end there, and one that ended is not lost."""
        return self._leaving.has(self._node_ids[trial.trial_id])

    def pop_employed(self) -> Iterator[Trial]:
        """Idle workers that now have something to do."""
        for trial in list(self._idle.values()):
            if not self._is_leaving(trial) and self._hand_next_piece(trial):
                yield self._idle.pop(trial.trial_id)

    def lose(self, trial: Trial) -> None:
        """A worker is gone; should the study go on with what it trained, any other takes that up."""
        self._idle.pop(trial.trial_id, None)
        worker = self._workers.pop(trial.trial_id)
        piece = self._at_work.pop(trial.trial_id, ())
        if not piece:
            self._num_stillborn[worker] += worker not in self._up
            log.warning("a worker ended that had nothing to do")
            return
        self._nodes.end_work(trial.trial_id, is_lost=True)
        names = " ".join(segment.trial_id for segment in piece)
        log.warning("lost trial_id=%s: its worker ended; going on from its last checkpoint", names)
        self._has_no_piece.clear()
        self._study.lose(piece[0].trial_id, "its worker ended")
        self._progress(self._study)

    def _take_in(self, worker: str, piece: tuple[Segment, ...], result: Mapping[str, Any]) -> None:
        if "error" in result:
            self._nodes.end_work(worker, is_lost=True)
            log.warning("failed trial_id=%s: %s", piece[0].trial_id, result["error"])
            self._study.fail(piece[0].trial_id, result["error"])
            return
        reports = [TrialReport.from_json(fields) for fields in json.loads(result["reports"])]
        self._nodes.end_work(worker, seconds={report.trial_id: report.seconds for report in reports})
        for report in reports:
            decision = self._study.report(report)
            log.info("%s trial_id=%s: %s", decision.action, report.trial_id, decision.reason)

    def _hand_next_piece(self, trial: Trial) -> bool:
        worker = self._workers[trial.trial_id]
        piece = () if worker in self._has_no_piece else self._next_piece(worker)
        if not piece:
            return False
        self._at_work[trial.trial_id] = piece
        self._nodes.begin_work(
            trial.trial_id,
            node_id=self._node_ids[trial.trial_id],
            resources=self._study.plan.budget.kind(worker).resources,
            trials=[segment.trial_id for segment in piece],
        )
        # An actor does what it is told in the order in which it is told, so this comes before the step that trains it.
        trial.temporary_state.ray_actor.hand.remote(piece)
        return True

    def _next_piece(self, worker: Device) -> tuple[Segment, ...]:
        """The study's; and which kinds of worker need not be asked now, or may be asked again."""
        in_line = {kind.name: self._study.num_in_line(kind.name) for kind in self._kinds}
        piece = self._study.next_piece(worker)
        if piece:
            self._has_no_piece.clear()
            return piece
        self._has_no_piece.add(worker)
        self._has_no_piece -= {name for name, length in in_line.items() if self._study.num_in_line(name) > length}
        return ()


class _WorkerSearcher(Searcher):
    """Asks Tune for a worker while the study may have something for it; how many there are at most, Tune knows."""

    def __init__(self, dispatcher: _Dispatcher) -> None:
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

    def __init__(self, dispatcher: _Dispatcher) -> None:
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
        return None  # those that have not begun, Tune starts by itself


class _StopWhenDone(Stopper):
    """Ends the experiment, idle workers included, once the study has nothing left to do."""

    def __init__(self, dispatcher: _Dispatcher) -> None:
        self._dispatcher = dispatcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002 - Tune's signature
        return False

    def stop_all(self) -> bool:
        return self._dispatcher.is_done


def _nothing() -> None:
    """What a dispatcher becomes in Tune's snapshots."""


def _use_one_thread() -> None:
    """A slot is one CPU; torch would otherwise take them all."""
    import torch

    torch.set_num_threads(1)


def _devnull() -> Any:
    return Path(os.devnull).open("w")
