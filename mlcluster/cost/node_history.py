"""A node log read back: which nodes there were and when, what was done on them, and when the run's drivers lived."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlcluster.cost.node_log import LOOK_SECONDS, Node, is_being_written
from mlcluster.errors import ClusterError


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """From one moment to another, in seconds since the epoch."""

    begin: float
    end: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What one worker held of a node, and for whom."""

    node_id: str
    span: Span
    resources: Mapping[str, float]
    trials: Mapping[str, float]
    """Seconds by trial that was trained: how the work is split among them. One at least."""
    is_lost: bool = False
    """Nothing came of it: its worker, its node or its driver went before it had reported, or the training raised."""
    cause: str = ""
    """Why it was lost, where that is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A stage for which all nodes were there."""

    name: str
    span: Span


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenUp:
    """A node that the search let go before its end."""

    node_id: str
    span: Span
    """From then until the end of the search, or of its driver: without it, the node would have been kept for that."""
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeHistory:
    """`drivers` are the spans in which the run was driven: outside of them its nodes are not its own."""

    nodes: tuple[Node, ...] = ()
    work: tuple[Work, ...] = ()
    stages: tuple[Stage, ...] = ()
    drivers: tuple[Span, ...] = ()
    given_up: tuple[GivenUp, ...] = ()


def read_node_history(path: Path) -> NodeHistory:
    """What the file tells. Work that had not ended when a driver died is lost; while one lives, it is under way.

    Nothing tells when a driver was killed: it is taken to have lived until its next look would have come, or the next
    driver, so that at most `LOOK_SECONDS` are on the bill that were not its own, and none of its own are missing.

    Raises:
        ClusterError: a line before the last is damaged.
    """
    is_running = is_being_written(path)
    reader = _Reader()
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            reader.take(json.loads(line))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ClusterError(
                f"{path.name}:{number} is no line of a node log; restore the file from a backup, or start a new run."
            ) from error
    return reader.history(is_running=is_running)


@dataclass(kw_only=True, slots=True)
class _Reader:
    nodes: dict[str, Node] = field(default_factory=dict)
    work: list[Work] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    drivers: list[Span] = field(default_factory=list)
    given_up: list[GivenUp] = field(default_factory=list)
    open_given_up: dict[str, dict[str, Any]] = field(default_factory=dict)
    open_work: dict[str, dict[str, Any]] = field(default_factory=dict)
    open_stages: dict[str, float] = field(default_factory=dict)
    opened_at: float | None = None
    last_at: float = 0.0

    def take(self, line: dict[str, Any]) -> None:
        operation, at = str(line.pop("op")), float(line.pop("at"))
        if operation == "open":
            self._end_killed_driver(not_after=at)
            self.opened_at = at
        self.last_at = max(self.last_at, at)
        match operation:
            case "launched":
                # A node that an earlier driver saw too began when that one said; a node comes back under a new id.
                self.nodes.setdefault(line["node_id"], Node(**line))
            case "released":
                self._release(line)
            case "begin":
                self.open_work[line["worker"]] = {**line, "begin": at}
            case "end":
                self._end_work(
                    line["worker"], at, line["seconds"], is_lost=line["is_lost"], cause=line.get("cause", "")
                )
            case "stage":
                self.open_stages[line["stage"]] = at
            case "stage_end":
                self._end_stage(line["stage"], at)
            case "given_up":
                self.open_given_up[line["node_id"]] = {**line, "begin": at}
            case "search_end":
                self._end_search(at)
            case "close":
                self._end_driver(is_lost=True)
            case "open" | "alive":
                pass
            case _:
                raise ValueError(operation)

    def history(self, *, is_running: bool) -> NodeHistory:
        if is_running:
            self._end_driver(is_lost=False)
        else:
            self._end_killed_driver()
        return NodeHistory(
            nodes=tuple(self.nodes.values()),
            work=tuple(self.work),
            stages=tuple(self.stages),
            drivers=tuple(self.drivers),
            given_up=tuple(self.given_up),
        )

    def _release(self, line: Mapping[str, Any]) -> None:
        known = self.nodes.get(line["node_id"])
        node = Node(**line) if known is None else replace(known, released_at=line["released_at"])
        self.nodes[node.node_id] = node

    def _end_work(
        self, worker: str, at: float, seconds: Mapping[str, float], *, is_lost: bool, cause: str = ""
    ) -> None:
        begun = self.open_work.pop(worker)
        work = Work(
            node_id=begun["node_id"],
            span=Span(begin=begun["begin"], end=at),
            resources=begun["resources"],
            trials=seconds or dict.fromkeys(begun["trials"], 1.0),
            is_lost=is_lost,
            cause=cause,
        )
        self.work.append(work)

    def _end_stage(self, stage: str, at: float) -> None:
        self.stages.append(Stage(name=stage, span=Span(begin=self.open_stages.pop(stage), end=at)))

    def _end_search(self, at: float) -> None:
        for line in self.open_given_up.values():
            span = Span(begin=line["begin"], end=at)
            self.given_up.append(GivenUp(node_id=line["node_id"], span=span, reason=line["reason"]))
        self.open_given_up.clear()

    def _end_killed_driver(self, *, not_after: float = math.inf) -> None:
        """One that has left the file open, and may have lived for some seconds more."""
        if self.opened_at is not None:
            self.last_at = min(self.last_at + LOOK_SECONDS, max(self.last_at, not_after))
        self._end_driver(is_lost=True)

    def _end_driver(self, *, is_lost: bool) -> None:
        """The driver has left the file: what was under way ended with its last line."""
        for worker in list(self.open_work):
            self._end_work(worker, self.last_at, {}, is_lost=is_lost)
        for stage in list(self.open_stages):
            self._end_stage(stage, self.last_at)
        self._end_search(self.last_at)
        if self.opened_at is not None:
            self.drivers.append(Span(begin=self.opened_at, end=self.last_at))
            self.opened_at = None


def driven(node: Node, drivers: tuple[Span, ...]) -> Iterator[Span]:
    """The parts of a node's life in which the run was driven."""
    for driver in drivers:
        begin = max(node.launched_at, driver.begin)
        end = driver.end if node.released_at is None else min(node.released_at, driver.end)
        if begin < end:
            yield Span(begin=begin, end=end)
