"""While a study goes on: which of its nodes are to be emptied, and letting go of those that are empty.

What is decided, `nodes_to_release` decides; here is kept what it must know, and what became of it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mlcluster.cluster import StudyNode, nodes_to_release
from mlcluster.cost import NoNodeLog
from mlcluster.spec import Device

_log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
LAST_SECONDS = 5.0
"""At the end of a study its nodes are empty once Ray has ended the workers: this long is waited for that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerAt:
    """A worker that is up."""

    node_id: str
    kind: Device
    is_busy: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ElasticCluster:
    """A cluster whose nodes go when they are let go."""

    let_go: Callable[[str, str], bool]
    """Takes a node's id and why; False where it is not idle (yet)."""
    min_nodes: Mapping[str, int] = field(default_factory=dict)
    """By type: so many are started anew if they go."""
    start_seconds: float = 180.0


class KeepAll:
    """The nodes of a study, by the log of them, where they are not the study's to give up."""

    def __init__(self, log_of_nodes: NoNodeLog | None = None) -> None:
        self.log = log_of_nodes or NoNodeLog()
        self.usd_per_second = 0.0
        """What the nodes had cost that were given up."""

    def is_due(self) -> bool:
        """Whether it is time for another look."""
        return False

    def look(self, workers: Sequence[WorkerAt], *, needed: Mapping[Device, int] | None) -> None:
        """Decides which nodes go, as `nodes_to_release`, and lets go of those that have no worker left."""

    def has(self, node_id: str) -> bool:  # noqa: ARG002 - see `Releases`
        """Whether the node is to be emptied: its workers are handed nothing more, and end."""
        return False

    def end(self) -> None:
        """The study has ended: nothing but one node is needed any more."""


class Releases(KeepAll):
    """See the module. The log knows type and price of each, and has written down which were given up."""

    def __init__(
        self, cluster: ElasticCluster, log_of_nodes: NoNodeLog, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(log_of_nodes)
        self._cluster = cluster
        self._clock = clock
        self._looked_at = -LOOK_SECONDS
        self._busy_at: dict[str, float] = {}
        """When a worker of each node that had one was busy last, or first seen."""
        self._going: dict[str, str] = {}
        """Nodes to be emptied, and why."""
        self._gone: set[str] = set()

    def is_due(self) -> bool:
        return self._clock() - self._looked_at >= LOOK_SECONDS

    def look(self, workers: Sequence[WorkerAt], *, needed: Mapping[Device, int] | None) -> None:
        now = self._looked_at = self._clock()
        for worker in workers:
            if worker.is_busy:
                self._busy_at[worker.node_id] = now
            self._busy_at.setdefault(worker.node_id, now)
        staying = [worker for worker in workers if worker.node_id not in self._going]
        nodes = self._with_minimum(list(self._study_nodes(staying, now)))
        for release in nodes_to_release(nodes, needed=_by_name(needed), start_seconds=self._cluster.start_seconds):
            _log.info("giving up node_id=%s: %s", release.node_id, release.reason)
            self._going[release.node_id] = release.reason
        occupied = {worker.node_id for worker in workers}
        for node_id in self._going.keys() - self._gone - occupied:
            if self._let_go(node_id, self._going[node_id]):
                self.log.give_up(node_id, reason=self._going[node_id])

    def has(self, node_id: str) -> bool:
        return node_id in self._going

    def end(self) -> None:
        self.log.end_search()
        nodes = self._with_minimum(
            [self._study_node(node_id) for node_id in self._busy_at if node_id not in self._gone]
        )
        left = {one.node_id for one in nodes_to_release(nodes, needed={}, start_seconds=0.0)}
        deadline = self._clock() + LAST_SECONDS
        while left and self._clock() < deadline:
            left = {node_id for node_id in left if not self._let_go(node_id, "the search has ended")}
            if left:
                time.sleep(LOOK_SECONDS)

    def _let_go(self, node_id: str, reason: str) -> bool:
        if not self._cluster.let_go(node_id, reason):
            return False
        self._gone.add(node_id)
        self.usd_per_second += self._study_node(node_id).usd_per_hour / 3600
        _log.info("let go of node_id=%s: %s", node_id, reason)
        return True

    def _study_nodes(self, workers: Sequence[WorkerAt], now: float) -> Iterator[StudyNode]:
        busy: defaultdict[str, Counter[str]] = defaultdict(Counter)
        idle: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for worker in workers:
            (busy if worker.is_busy else idle)[worker.node_id][worker.kind] += 1
        for node_id in busy.keys() | idle.keys():
            yield replace(
                self._study_node(node_id),
                busy=busy[node_id],
                idle=idle[node_id],
                idle_seconds=now - self._busy_at[node_id],
            )

    def _study_node(self, node_id: str) -> StudyNode:
        """Without its workers."""
        found = next((node for node in self.log.present if node.node_id == node_id), None)
        if found is None:  # it has just joined, or has just gone: the next look knows
            return StudyNode(node_id=node_id, may_go=False)
        return StudyNode(node_id=node_id, usd_per_hour=found.usd_per_hour or 0.0, may_go=not found.is_head)

    def _with_minimum(self, nodes: Sequence[StudyNode]) -> list[StudyNode]:
        """Of each type as many as its file keeps may not go: the busiest."""
        types = {node.node_id: node.node_type for node in self.log.present}
        num_kept: Counter[str] = Counter()
        found = []
        for node in sorted(nodes, key=lambda one: (-sum(one.busy.values()), one.node_id)):
            node_type = types.get(node.node_id, "")
            num_kept[node_type] += 1
            is_minimum = num_kept[node_type] <= self._cluster.min_nodes.get(node_type, 0)
            found.append(replace(node, may_go=node.may_go and not is_minimum))
        return found


def _by_name(needed: Mapping[Device, int] | None) -> dict[str, int] | None:
    return None if needed is None else {str(kind): number for kind, number in needed.items()}
