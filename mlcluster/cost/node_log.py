"""What a run's driver saw of the nodes of its cluster, and what it gave them to do: a file of JSON lines.

A node is written down when it is first seen, with the moment at which the cluster says that it began, and again when it
is gone; work when a worker is handed it and when it ends; stages likewise. In between there is a line for each look at
the cluster, so that of a driver that dies it is known until when it lived. A line that was written stays, and a torn
last one is passed over: the next driver of the run goes on in the same file.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlcluster.cost.line_file import cut_torn_line, open_locked
from mlcluster.cost.prices import SECONDS_PER_HOUR

LOOK_SECONDS = 5.0
"""From one look at the cluster to the next. A driver that is killed lived for so long at most after its last line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One machine, as a look at the cluster found it."""

    node_id: str
    node_type: str
    is_spot: bool | None
    """None where nothing says it."""
    is_head: bool
    resources: Mapping[str, float]
    usd_per_hour: float | None
    """Of the whole node, idle or busy; None where it is not known."""
    price_source: str
    """Where the price is from; without one, why there is none."""
    launched_at: float
    """Seconds since the epoch, as are all moments here."""
    released_at: float | None = None
    """None while it is there."""


class NoNodeLog:
    """Where nobody bills nodes: writes nothing."""

    @property
    def usd_per_second(self) -> float:
        """What all nodes that are there cost now, as far as that is known."""
        return 0.0

    @property
    def present(self) -> tuple[Node, ...]:
        """Those that the last look has found."""
        return ()

    def begin_work(self, worker: str, *, node_id: str, resources: Mapping[str, float], trials: Sequence[str]) -> None:
        """`worker`, on that node, holds so much of it for these trials from now on."""

    def end_work(
        self, worker: str, *, seconds: Mapping[str, float] | None = None, is_lost: bool = False, cause: str = ""
    ) -> None:
        """What it was handed has ended; `seconds` is how it splits among the trials, evenly where it is left out.

        `cause` is why it was lost, where that is known.
        """

    def begin_stage(self, stage: str) -> None:
        """All nodes are there for this stage from now on."""

    def end_stage(self, stage: str) -> None:
        """They no longer are."""

    def give_up(self, node_id: str, *, reason: str) -> None:
        """The search has let a node go before its end."""

    def end_search(self) -> None:
        """Until now the search would have kept the nodes that it gave up."""


class NodeLog(NoNodeLog):
    """See the module. Two threads may write: the one that looks at the cluster, and the driver's own."""

    def __init__(self, path: Path, *, clock: Callable[[], float]) -> None:
        """Opens or creates the file.

        Raises:
            ClusterError: another process has it open.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._present: dict[str, Node] = {}
        self._gone: set[str] = set()
        self._given_up: set[str] = set()
        """Of those present too, until the next look."""
        self._file = open_locked(path)
        cut_torn_line(path)
        self._append("open")

    @property
    def usd_per_second(self) -> float:
        staying = [node for node in self.present if node.node_id not in self._given_up]
        return sum((node.usd_per_hour or 0.0) / SECONDS_PER_HOUR for node in staying)

    @property
    def present(self) -> tuple[Node, ...]:
        return tuple(self._present.values())

    def see(self, nodes: Sequence[Node]) -> None:
        """One look at the cluster: those that are there, and those that the cluster remembers as gone."""
        present = {node.node_id: node for node in nodes if node.released_at is None}
        for node in nodes:
            if node.released_at is None and node.node_id not in self._present:
                self._append("launched", **asdict(node))
            elif node.released_at is not None and node.node_id not in self._gone:
                # Also of a node that came and went between two looks, or while no driver was there to look.
                self._append("released", **asdict(node))
                self._gone.add(node.node_id)
        for node_id in self._present.keys() - present.keys() - self._gone:
            self._append("released", node_id=node_id, released_at=self._clock())
            self._gone.add(node_id)
        self._present = present
        self._append("alive")

    def begin_work(self, worker: str, *, node_id: str, resources: Mapping[str, float], trials: Sequence[str]) -> None:
        self._append("begin", worker=worker, node_id=node_id, resources=dict(resources), trials=list(trials))

    def end_work(
        self, worker: str, *, seconds: Mapping[str, float] | None = None, is_lost: bool = False, cause: str = ""
    ) -> None:
        named = {"cause": cause} if cause else {}
        self._append("end", worker=worker, seconds=dict(seconds or {}), is_lost=is_lost, **named)

    def begin_stage(self, stage: str) -> None:
        self._append("stage", stage=stage)

    def end_stage(self, stage: str) -> None:
        self._append("stage_end", stage=stage)

    def give_up(self, node_id: str, *, reason: str) -> None:
        self._given_up.add(node_id)
        self._append("given_up", node_id=node_id, reason=reason)

    def end_search(self) -> None:
        self._append("search_end")

    def close(self) -> None:
        """The run has ended; what the nodes cost from here on is no longer its."""
        self._append("close")
        self._file.close()

    def _append(self, operation: str, **fields: Any) -> None:
        with self._lock:
            if self._file.closed:
                return
            line = json.dumps({"op": operation, "at": self._clock(), **fields})
            self._file.write(line.encode() + b"\n")
            self._file.flush()
            if operation not in ("begin", "end"):  # the next look, seconds later, puts them on disk
                os.fsync(self._file.fileno())


def is_being_written(path: Path) -> bool:
    """Whether a driver has the file open now."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
