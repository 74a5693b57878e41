"""Runs a study on Ray Tune: a Searcher for new trials, a TrialScheduler that pauses and resumes, reused actors.

One step of the Trainable is one piece: a segment, from a trial's checkpoint to the units that the policy asked for, or
several that are trained as one, in the Tune trial of the first of them. The Searcher and the TrialScheduler both put
Tune's questions to one `_Dispatcher`, and that to the `Study`; nothing is decided here. Checkpoints are the study's own
files, so Tune's carry nothing.
"""

from __future__ import annotations

import faulthandler
import io
import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from mlcluster.search import Action
from mlcluster.train import FAMILIES, Segment, TrialReport, warm_up
from mlcluster.tune.result import StudyResult
from mlcluster.tune.study import Study

log = logging.getLogger(__name__)

Trainer = Callable[[Segment], TrialReport]
TrainerTogether = Callable[[Sequence[Segment]], Sequence[TrialReport]]
Progress = Callable[[Study], None]


def run_study_on_ray(
    study: Study, trainer: Trainer, *, folder: Path, progress: Progress, together: TrainerTogether | None = None
) -> StudyResult:
    """Drives `study` to its end on the connected Ray cluster, one CPU a slot.

    `trainer` runs in the workers (it is sent once, through the object store), and so does `together`, for several
    segments as one; without it they are trained one after the other. `progress` is called after each event.
    """
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "3600")
    # A lost worker is a line of ours, with what becomes of the trial; Tune would add a traceback and a list.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    dispatcher = _Dispatcher(study, progress)
    trainable = tune.with_resources(_with_parameters(study, trainer, together), {"cpu": 1})
    tuner = tune.Tuner(
        trainable,
        param_space={},
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            num_samples=-1,
            search_alg=_SegmentSearcher(dispatcher),
            scheduler=_SegmentScheduler(dispatcher),
            reuse_actors=True,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=tune.RunConfig(
            name=study.plan.study_id,
            storage_path=str(folder.resolve()),
            stop=_StopWhenDone(dispatcher),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=None),
        ),
    )
    # Tune prints where its own files lie, on the stdout that belongs to the result.
    with redirect_stdout(io.StringIO()):
        tuner.fit()
    study.end_overdue()
    return study.finish()


def _with_parameters(study: Study, trainer: Trainer, together: TrainerTogether | None) -> Any:
    known = tuple(name for name in study.plan.spaces if name in FAMILIES)
    return tune.with_parameters(PieceTrainable, trainer=trainer, together=together, families=known)


class PieceTrainable(tune.Trainable):
    """Trains one piece a step, inside a limit of seconds that holds whatever the training does."""

    def setup(
        self,
        config: dict[str, Any],
        trainer: Trainer,
        together: TrainerTogether | None = None,
        families: tuple[str, ...] = (),
    ) -> None:
        self._trainer = trainer
        self._together = together
        self._piece = _piece_from(config)
        _use_one_thread()
        warm_up(families)

    def step(self) -> dict[str, Any]:
        # A watchdog in C that asks neither the GIL nor the training: once what was paid for is used up the process is
        # gone, so that it never costs more than was reserved for it.
        paid_seconds = max(0.01, self._piece[0].deadline - time.time())
        faulthandler.dump_traceback_later(paid_seconds, exit=True, file=_devnull())
        try:
            reports = self._train()
        except Exception as error:
            log.exception("training failed trial_id=%s", " ".join(segment.trial_id for segment in self._piece))
            return {"loss": math.inf, "error": f"{type(error).__name__}: {error}"}
        finally:
            faulthandler.cancel_dump_traceback_later()
        return {"loss": reports[0].loss, "reports": json.dumps([report.to_json() for report in reports])}

    def _train(self) -> Sequence[TrialReport]:
        if len(self._piece) == 1 or self._together is None:
            return [self._trainer(segment) for segment in self._piece]
        return self._together(self._piece)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._piece = _piece_from(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:  # noqa: ARG002 - Tune's signature
        return {"segment": self._piece[0].trial_id}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing to do: the segment names its checkpoint."""


def _config_of(piece: Sequence[Segment]) -> dict[str, Any]:
    return {"piece": [asdict(segment) for segment in piece]}


def _piece_from(config: Mapping[str, Any]) -> tuple[Segment, ...]:
    return tuple(Segment(**fields) for fields in config["piece"])


class _Dispatcher:
    """Hands pieces to Tune's two interfaces: new Tune trials to the searcher, paused ones to the scheduler.

    The first trial of a piece leads it: the piece runs in that trial's Tune trial.
    """

    def __init__(self, study: Study, progress: Progress) -> None:
        self._study = study
        self._progress = progress
        self._waiting: tuple[Segment, ...] = ()
        self._tune_trials: dict[str, Trial] = {}
        """By the study's trial id; only those that Tune can resume."""
        self._names: dict[str, str] = {}
        """From Tune's trial id to the study's."""
        self.starting: dict[str, Trial] = {}
        """Resumed trials that Tune has not started yet, by Tune's id."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Dispatcher:
        """Tune copies its searcher and scheduler; both must go on sharing this one."""
        return self

    def __reduce__(self) -> Any:
        """Tune pickles them for a restore of its own, which is never asked for: the study has its journal."""
        return _nothing, ()

    @property
    def is_done(self) -> bool:
        return self._study.is_overdue or (not self._peek() and self._study.num_running == 0)

    def new_trial(self, tune_id: str) -> tuple[Segment, ...]:
        """The waiting piece, if it needs a new Tune trial."""
        piece = self._peek()
        if not piece or piece[0].trial_id in self._tune_trials:
            return ()
        self._waiting = ()
        self._names[tune_id] = piece[0].trial_id
        return piece

    def resumed_trial(self) -> Trial | None:
        """The paused Tune trial of the waiting piece, made ready for it."""
        piece = self._peek()
        if not piece or piece[0].trial_id not in self._tune_trials:
            return None
        trial = self._tune_trials[piece[0].trial_id]
        if trial.status != Trial.PAUSED:
            return None
        self._waiting = ()
        trial.set_config(_config_of(piece))
        self.starting[trial.trial_id] = trial
        return trial

    def add(self, trial: Trial) -> None:
        """Tune has made the trial that was asked for."""
        self._tune_trials[self._names[trial.trial_id]] = trial

    def report(self, trial: Trial, result: Mapping[str, Any]) -> str:
        """Tune's word for what becomes of a trial that has reported."""
        self.starting.pop(trial.trial_id, None)
        if "error" in result:
            return self._fail(self._names[trial.trial_id], result["error"])
        leader = self._names[trial.trial_id]
        actions = {}
        for fields in json.loads(result["reports"]):
            report = TrialReport.from_json(fields)
            decision = self._study.report(report)
            log.info("%s trial_id=%s: %s", decision.action, report.trial_id, decision.reason)
            actions[report.trial_id] = decision.action
        self._progress(self._study)
        if actions[leader] is Action.PAUSE:
            return str(TrialScheduler.PAUSE)
        self._tune_trials.pop(leader, None)
        return str(TrialScheduler.STOP)

    def _fail(self, trial_id: str, error: str) -> str:
        log.warning("failed trial_id=%s: %s", trial_id, error)
        self._tune_trials.pop(trial_id, None)
        self._study.fail(trial_id, error)
        self._progress(self._study)
        return str(TrialScheduler.STOP)

    def lose(self, trial: Trial) -> None:
        """The trial's actor is gone; should the study go on with it, a new Tune trial is made."""
        self.starting.pop(trial.trial_id, None)
        trial_id = self._names[trial.trial_id]
        log.warning("lost trial_id=%s: its worker ended; going on from its last checkpoint", trial_id)
        self._tune_trials.pop(trial_id, None)
        self._study.lose(trial_id, "its worker ended")
        self._progress(self._study)

    def _peek(self) -> tuple[Segment, ...]:
        """The next piece, asked for once and kept until it is handed out."""
        if not self._waiting and self._study.num_running < self._study.plan.budget.num_slots:
            self._waiting = self._study.next_piece()
        return self._waiting


class _SegmentSearcher(Searcher):
    """Gives Tune the pieces whose first trial begins (in this driver)."""

    def __init__(self, dispatcher: _Dispatcher) -> None:
        super().__init__(metric="loss", mode="min")
        self._dispatcher = dispatcher

    def suggest(self, trial_id: str) -> Any:
        if self._dispatcher.is_done:
            return Searcher.FINISHED
        piece = self._dispatcher.new_trial(trial_id)
        return _config_of(piece) if piece else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing to do: the scheduler has told the study."""

    def save(self, checkpoint_path: str) -> None:
        """An empty file, which Tune expects; the study keeps its own journal."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the study keeps its own journal."""


class _SegmentScheduler(FIFOScheduler):
    """Pauses each trial after its segment, and resumes those that the study sends on."""

    def __init__(self, dispatcher: _Dispatcher) -> None:
        super().__init__()
        self._dispatcher = dispatcher

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002 - Tune's signature
        self._dispatcher.add(trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:  # noqa: ARG002
        return self._dispatcher.report(trial, result)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002
        self._dispatcher.lose(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:  # noqa: ARG002
        for trial in list(self._dispatcher.starting.values()):
            if trial.status == Trial.PENDING:
                return trial
            if trial.status == Trial.RUNNING:
                self._dispatcher.starting.pop(trial.trial_id)
        return self._dispatcher.resumed_trial()


class _StopWhenDone(Stopper):
    """Ends the experiment, paused trials included, once the study has nothing left to do."""

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
