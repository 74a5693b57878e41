"""Our own policy, through the one door by which the benchmark knows it."""

from __future__ import annotations

import math

from mlcluster.search import Candidate, Fidelity, PastStudy, PastTrial, SearchProblem, learn_portfolio
from mlcluster.search.cost_aware import CostAwareHyperband, CostAwareSettings
from mlcluster.spec import Configuration
from mlcluster.tune import AskTell, Piece, PieceOutcome
from search_bench.task import PastTrial as BenchmarkTrial
from search_bench.task import PolicyTask

_FAMILY = "benchmark"


class OwnPolicy:
    """The policy that studies run, on a benchmark: one family, a unit an epoch, nothing known of costs beforehand."""

    def __init__(self, task: PolicyTask, settings: CostAwareSettings) -> None:
        self._first_epoch_seconds = 0.0
        """The policy's second: the benchmark gives no estimate of what an epoch takes, so the first report is one."""
        self._segments: dict[str, Piece] = {}
        fidelity = Fidelity(max_units=task.max_epochs, nominal_seconds=self._nominal_seconds)
        spaces = {_FAMILY: task.space}
        problem = SearchProblem(
            spaces=spaces, fidelities={_FAMILY: fidelity}, first=first_candidates(task), seed=task.seed
        )
        self._policy = CostAwareHyperband(settings, problem)

    def ask(self, *, room_seconds: float) -> Piece | None:
        """What the policy suggests."""
        scale = self._first_epoch_seconds
        suggestion = self._policy.suggest(room_seconds=room_seconds / scale if scale else math.inf)
        if suggestion is None:
            return None
        self._policy.accept(suggestion)
        piece = Piece(
            trial_id=suggestion.trial_id,
            configuration=suggestion.candidate.configuration,
            start_units=suggestion.start_units,
            stop_units=suggestion.stop_units,
        )
        self._segments[suggestion.trial_id] = piece
        return piece

    def tell(self, trial_id: str, outcome: PieceOutcome) -> None:
        """The last loss is the trial's; the seconds teach its cost model."""
        piece = self._segments.pop(trial_id)
        self._first_epoch_seconds = self._first_epoch_seconds or float(outcome.elapsed_seconds[0])
        seconds = float(outcome.elapsed_seconds[-1]) / self._first_epoch_seconds
        self._policy.report(trial_id, units=piece.stop_units, loss=float(outcome.losses[-1]), seconds=seconds)

    def _nominal_seconds(self, configuration: Configuration, units: int) -> float:  # noqa: ARG002
        """Epochs, all alike; the rungs are given in them."""
        return float(units)


def first_candidates(task: PolicyTask) -> tuple[Candidate, ...]:
    """The portfolio that the history teaches; none where the run is cold."""
    studies = [
        PastStudy(
            name=study.task,
            trials=tuple(_past_trial(trial, task.max_epochs) for trial in study.trials),
            max_units={_FAMILY: task.max_epochs},
        )
        for study in task.warm_history
    ]
    return learn_portfolio(studies, {_FAMILY: task.space}, seed=task.seed)


def _past_trial(trial: BenchmarkTrial, max_epochs: int) -> PastTrial:
    """At its rungs, as a study would have reported it."""
    units = [int(rung) for rung in _rungs(max_epochs) if rung <= len(trial.losses)]
    return PastTrial(
        candidate=Candidate(family=_FAMILY, configuration=trial.configuration, origin="history"),
        units=tuple(units),
        losses=tuple(float(trial.losses[unit - 1]) for unit in units),
    )


def own_settings(max_epochs: int) -> CostAwareSettings:
    """Rungs at 1, 3, 9 ... epochs and at the last."""
    return CostAwareSettings(rungs_seconds=_rungs(max_epochs))


def _rungs(max_epochs: int) -> tuple[float, ...]:
    rungs = [1]
    while rungs[-1] * 3 < max_epochs:
        rungs.append(rungs[-1] * 3)
    return (*map(float, rungs), float(max_epochs))


def ours(task: PolicyTask) -> AskTell:
    """Cold or warm, as the run is."""
    return OwnPolicy(task, own_settings(task.max_epochs))
