"""Ray Tune's own scheduler and searcher, asked without a cluster.

`AsyncHyperBandScheduler` decides after each rung whether a trial stops; it never resumes one. Ray's usual pairing gives
it configurations from `OptunaSearch`, which tells Optuna a stopped trial's last loss as if its training were complete.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from mlcluster.spec import Configuration
from mlcluster.tune import Piece, PieceOutcome
from search_bench.draws import as_configuration, random_configurations
from search_bench.optuna_peers import distributions, quiet_optuna
from search_bench.task import PolicyTask

REDUCTION_FACTOR = 4
"""Ray's default, as are a grace period of one epoch and one bracket."""


MAX_SUGGESTIONS = 100
"""Nones of a searcher in a row, with nothing running, that end a search."""


@dataclass(frozen=True)
class _Trial:
    """As much of Ray's `Trial` as its scheduler looks at."""

    trial_id: str


class RandomDraws:
    """A searcher that learns nothing."""

    def __init__(self, task: PolicyTask) -> None:
        self._draws = random_configurations(task.space, task.seed)

    def suggest(self, trial_id: str) -> Configuration:  # noqa: ARG002
        return next(self._draws)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """As Ray calls it after each epoch."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any]) -> None:
        """As Ray calls it after the last one."""


class RayAsha:
    """ASHA by stopping, with the calls that Ray's `TuneController` makes; pieces end where the scheduler decides."""

    def __init__(self, task: PolicyTask, searcher: Any) -> None:
        self._space = task.space
        self._searcher = searcher
        self._scheduler = AsyncHyperBandScheduler(
            metric="loss", mode="min", max_t=task.max_epochs, grace_period=1, reduction_factor=REDUCTION_FACTOR
        )
        (bracket,) = self._scheduler._brackets
        milestones = sorted(int(milestone) for milestone, _ in bracket._rungs)
        self._stops = [*(stop for stop in milestones if stop < task.max_epochs), task.max_epochs]
        self._numbers = itertools.count()
        self._going_on: deque[Piece] = deque()
        self._running: dict[str, Piece] = {}
        self._seconds: dict[str, float] = {}

    def ask(self, *, room_seconds: float) -> Piece | None:  # noqa: ARG002
        piece = self._going_on.popleft() if self._going_on else self._new_trial()
        if piece is not None:
            self._running[piece.trial_id] = piece
        return piece

    def tell(self, trial_id: str, outcome: PieceOutcome) -> None:
        piece = self._running.pop(trial_id)
        before = self._seconds.get(trial_id, 0.0)
        reports = zip(outcome.losses.tolist(), outcome.elapsed_seconds.tolist(), strict=True)
        for epoch, (loss, seconds) in enumerate(reports, start=piece.start_units + 1):
            self._seconds[trial_id] = before + seconds
            result = {
                "training_iteration": epoch,
                "loss": loss,
                "time_total_s": before + seconds,
                "config": piece.configuration,
            }
            decision = self._scheduler.on_trial_result(None, _Trial(trial_id), result)
            if decision == TrialScheduler.STOP:
                self._scheduler.on_trial_complete(None, _Trial(trial_id), result)
                self._searcher.on_trial_complete(trial_id, result=result)
                return
            self._searcher.on_trial_result(trial_id, result)
        self._going_on.append(self._piece(trial_id, piece.configuration, piece.stop_units))

    def _new_trial(self) -> Piece | None:
        trial_id = str(next(self._numbers))
        proposed = self._suggestion(trial_id)
        if proposed is None:
            return None
        self._scheduler.on_trial_add(None, _Trial(trial_id))
        return self._piece(trial_id, as_configuration(self._space, proposed), 0)

    def _suggestion(self, trial_id: str) -> Configuration | None:
        """None tells Ray to come again; while others run, the next outcome is soon enough."""
        for _ in range(1 if self._running else MAX_SUGGESTIONS):
            proposed: Configuration | None = self._searcher.suggest(trial_id)
            if proposed is not None:
                return proposed
        return None

    def _piece(self, trial_id: str, configuration: Configuration, start: int) -> Piece:
        stop = next(stop for stop in self._stops if stop > start)
        return Piece(trial_id=trial_id, configuration=configuration, start_units=start, stop_units=stop)


def asha_stopping(task: PolicyTask) -> RayAsha:
    """Ray's ASHA on random configurations."""
    return RayAsha(task, RandomDraws(task))


def ray_default(task: PolicyTask) -> RayAsha:
    """Ray's ASHA on configurations of `OptunaSearch`: the pairing of Ray's own guides."""
    quiet_optuna()
    searcher = OptunaSearch(space=distributions(task.space), metric="loss", mode="min", seed=task.seed)
    return RayAsha(task, searcher)
