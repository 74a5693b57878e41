"""What each worker of a study on Ray Tune does next: the study's pieces to those that are up, their reports to it."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from mlcluster.cluster.ray_members import LeavingNodes
from mlcluster.spec import Device
from mlcluster.train import Segment, TrialReport
from mlcluster.tune.releases import KeepAll, WorkerAt
from mlcluster.tune.study import Study

log = logging.getLogger(__name__)

Progress = Callable[[Study], None]
INTERRUPTION = "spot interruption"
"""The cause of a loss on a machine that was drained before it went."""
MAX_STILLBORN = 3
"""When that many workers have ended before they were up, and none came up, no other one will."""


class Dispatcher:
    """Hands pieces to workers that are up, so that none waits for a worker that may never come.

    A worker whose node is to go (Ray was told so, or the study gives it up) is handed nothing more, and ends.
    """

    def __init__(self, study: Study, progress: Progress, nodes: KeepAll) -> None:
        self._study = study
        self._log_of_nodes = nodes.log
        self._progress = progress
        self._at_work: dict[str, tuple[Segment, ...]] = {}
        """What each worker trains, by Tune's trial id."""
        self._workers: dict[str, Device] = {}
        """The kind of each that was asked for and is not gone, by Tune's trial id."""
        self._idle: dict[str, Trial] = {}
        """Workers that are up with nothing to do."""
        self._kinds = study.plan.budget.kinds
        self._leaving = LeavingNodes()
        self._releases = nodes
        self._num_given_up: Counter[Device] = Counter()
        """Workers of each kind that went with nodes which the study has given up: they are not asked for again."""
        self._node_ids: dict[str, str] = {}
        """The machine of each worker that has been up, by Tune's trial id."""
        self._has_no_piece: set[Device] = set()
        """Kinds for which the study had nothing. Only a report, a loss or another kind's piece can change that, for
        time makes it no more."""
        self._up: set[Device] = set()
        """Kinds of which a worker has ever been up."""
        self._num_stillborn: Counter[Device] = Counter()

    def __deepcopy__(self, memo: dict[int, Any]) -> Dispatcher:
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
        given_up = self._releases.usd_per_second
        self._study.reprice(self._log_of_nodes.usd_per_second, given_up_usd_per_second=given_up)
        if self._at_work:
            return self._study.is_overdue
        if self.is_hopeless or all(kind.name in self._useless for kind in self._kinds):
            return True
        return not self._study.pay_for_workers()

    def ask_for_worker(self, tune_id: str) -> Device | None:
        """The kind of which one more may be of use, if there is such a kind, noted under Tune's id for it."""
        kinds, idle = list(self._workers.values()), {self._workers[name] for name in self._idle}
        for kind in self._kinds:
            num_slots = kind.num_slots - self._num_given_up[kind.name]
            if kind.name not in self._useless | idle and kinds.count(kind.name) < num_slots:
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
            self._end_worker(trial)
            return str(TrialScheduler.STOP)
        if self._hand_next_piece(trial):
            return str(TrialScheduler.CONTINUE)
        self._idle[trial.trial_id] = trial
        return str(TrialScheduler.NOOP)

    def _is_leaving(self, trial: Trial) -> bool:
        """Whether its machine is to go soon: another piece might not end there, and one that ended is not lost."""
        node_id = self._node_ids[trial.trial_id]
        return self._releases.has(node_id) or self._leaving.has(node_id)

    def _end_worker(self, trial: Trial) -> None:
        node_id, worker = self._node_ids[trial.trial_id], self._workers.pop(trial.trial_id)
        self._num_given_up[worker] += self._releases.has(node_id)
        log.info("released a worker node_id=%s: its machine is to go, and what it trained is done", node_id)

    def pop_released(self) -> Iterator[Trial]:
        """Idle workers that are to end, for the study gives up their nodes; which those are is decided here and now."""
        if not self._releases.is_due():
            return
        self._releases.look(self._workers_up(), needed=self._needed())
        for trial in list(self._idle.values()):
            if self._releases.has(self._node_ids[trial.trial_id]):
                self._end_worker(trial)
                yield self._idle.pop(trial.trial_id)

    def _workers_up(self) -> list[WorkerAt]:
        return [
            WorkerAt(node_id=self._node_ids[name], kind=kind, is_busy=name in self._at_work)
            for name, kind in self._workers.items()
            if name in self._node_ids
        ]

    def _needed(self) -> Counter[Device] | None:
        """Workers that the rest of the study can use at most; None while that is not known."""
        idle = {self._workers[name] for name in self._idle}
        if not (idle and idle <= self._has_no_piece and self._study.has_peaked):
            return None
        needed: Counter[Device] = Counter()
        for name, piece in self._at_work.items():
            needed[self._workers[name]] += len(piece)  # those that are trained as one may go on apart
        return needed

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
        is_taken_away = self._leaving.had(self._node_ids[trial.trial_id])
        self._log_of_nodes.end_work(trial.trial_id, is_lost=True, cause=INTERRUPTION if is_taken_away else "")
        names, why = " ".join(segment.trial_id for segment in piece), INTERRUPTION if is_taken_away else "worker ended"
        log.warning("lost trial_id=%s: %s; going on from its last checkpoint", names, why)
        self._has_no_piece.clear()
        self._study.lose(piece[0].trial_id, f"its {why}")
        self._progress(self._study)

    def _take_in(self, worker: str, piece: tuple[Segment, ...], result: Mapping[str, Any]) -> None:
        if "error" in result:
            self._log_of_nodes.end_work(worker, is_lost=True)
            log.warning("failed trial_id=%s: %s", piece[0].trial_id, result["error"])
            self._study.fail(piece[0].trial_id, result["error"])
            return
        reports = [TrialReport.from_json(fields) for fields in json.loads(result["reports"])]
        self._log_of_nodes.end_work(worker, seconds={report.trial_id: report.seconds for report in reports})
        for report in reports:
            decision = self._study.report(report)
            log.info("%s trial_id=%s: %s", decision.action, report.trial_id, decision.reason)

    def _hand_next_piece(self, trial: Trial) -> bool:
        worker = self._workers[trial.trial_id]
        piece = () if worker in self._has_no_piece else self._next_piece(worker)
        if not piece:
            return False
        self._at_work[trial.trial_id] = piece
        self._log_of_nodes.begin_work(
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


def _nothing() -> None:
    """What a dispatcher becomes in Tune's snapshots."""
