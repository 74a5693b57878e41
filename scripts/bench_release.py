"""What giving nodes up saves a search that promotes its trials one by one: node-seconds on recorded curves.

    .venv/bin/python scripts/bench_release.py --benchmark DIR [--benchmark DIR] [--seeds 20] [--nodes 4] [--slots 8]

Asynchronous halving of 81 trials, an hour for an average training, on nodes of some slots each. The same search, with
the same end, is billed three ways: all nodes to the end; nodes given up by `nodes_to_release`, each on the bill for
some seconds after its last worker (a worker ends, Ray drains, the autoscaler's next round); and nodes that go by Ray's
timeout of ten idle minutes, without packing. Per cent of the first, geometric mean over tasks, bootstrap interval.
"""

from __future__ import annotations

import argparse
import heapq
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mlcluster.cluster import StudyNode, nodes_to_release
from mlcluster.search import Fidelity, HyperbandSettings, RandomWithinFamily
from mlcluster.search.candidate import BestFamiliesSource
from mlcluster.search.hyperband import AsyncHyperband
from mlcluster.tune import load_benchmark
from mlcluster.tune.benchmark import BenchmarkTask

NUM_TRIALS, MEAN_SECONDS = 81, 3600.0
START_SECONDS, LINGER_SECONDS, TIMEOUT_SECONDS = 180.0, 8.0, 600.0


@dataclass(kw_only=True)
class Node:
    """A node of the simulation; `left` is how it went."""

    name: str
    busy: int = 0
    idle_since: float = 0.0
    is_going: bool = False
    left_at: float | None = None


@dataclass(kw_only=True)
class Search:
    """One search on nodes; `is_packed` gives nodes up by the rule, else they go by timeout."""

    task: BenchmarkTask
    seed: int
    num_nodes: int
    slots: int
    is_packed: bool
    nodes: list[Node] = field(default_factory=list)
    now: float = 0.0

    def run(self) -> tuple[float, float]:
        """Seconds until the end, and node-seconds."""
        self.nodes = [Node(name=f"n{number}") for number in range(self.num_nodes)]
        policy, running, num = self._policy(), [], 0
        scale = MEAN_SECONDS / self.task.mean_cost_seconds
        while True:
            may_start = len(policy.trials) < NUM_TRIALS
            while (node := self._free_node()) and (piece := policy.suggest(new_trials=may_start)) is not None:
                policy.accept(piece)
                curve = self.task.curve(piece.candidate.configuration)
                before = curve.seconds[piece.start_units - 1] if piece.start_units else 0.0
                seconds = float(curve.seconds[piece.stop_units - 1] - before) * scale
                node.busy += 1
                heapq.heappush(
                    running, (self.now + seconds, num, piece, node, float(curve.losses[piece.stop_units - 1]))
                )
                num, may_start = num + 1, len(policy.trials) < NUM_TRIALS
            if not running:
                return self.now, sum(self.now if one.left_at is None else one.left_at for one in self.nodes)
            self._give_up(has_peaked=not may_start and self._free_node() is not None)
            at, _, piece, node, loss = heapq.heappop(running)
            self._time_out(at)
            self.now = at
            node.busy -= 1
            node.idle_since = at
            policy.report(piece.trial_id, units=piece.stop_units, loss=loss)
            if node.is_going and not node.busy:
                node.left_at = at + LINGER_SECONDS

    def _policy(self) -> AsyncHyperband:
        rungs = tuple(MEAN_SECONDS / 3**step for step in (3, 2, 1, 0))
        fidelity = Fidelity(
            max_units=self.task.max_epochs, nominal_seconds=lambda _, units: units * MEAN_SECONDS / self.task.max_epochs
        )
        spaces = {"task": self.task.space}
        source = BestFamiliesSource(RandomWithinFamily(spaces, seed=self.seed), ["task"], seed=self.seed)
        settings = HyperbandSettings(rungs_seconds=rungs)
        return AsyncHyperband(settings, source=source, fidelities={"task": fidelity})

    def _free_node(self) -> Node | None:
        """One with a free slot: a new piece goes to the fullest where nodes are packed, else to the emptiest."""
        free = [one for one in self.nodes if one.left_at is None and not one.is_going and one.busy < self.slots]
        return min(free, key=lambda one: one.busy * (-1 if self.is_packed else 1), default=None)

    def _give_up(self, *, has_peaked: bool) -> None:
        if not self.is_packed:
            return
        staying = [one for one in self.nodes if one.left_at is None and not one.is_going]
        seen = [
            StudyNode(
                node_id=one.name,
                busy={"cpu": one.busy},
                idle={"cpu": self.slots - one.busy},
                usd_per_hour=1.0,
                idle_seconds=0.0 if one.busy else self.now - one.idle_since,
            )
            for one in staying
        ]
        needed = Counter({"cpu": sum(one.busy for one in self.nodes)}) if has_peaked else None
        names = {one.node_id for one in nodes_to_release(seen, needed=needed, start_seconds=START_SECONDS)}
        for one in staying:
            if one.name in names:
                one.is_going = True
                one.left_at = None if one.busy else self.now + LINGER_SECONDS

    def _time_out(self, until: float) -> None:
        """Ray's own way: who was idle for ten minutes goes, one node stays."""
        for one in self.nodes:
            is_last = sum(other.left_at is None for other in self.nodes) == 1
            if not self.is_packed and one.left_at is None and not one.busy and not is_last:
                leaves_at = one.idle_since + TIMEOUT_SECONDS
                one.left_at = leaves_at if leaves_at < until else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", type=Path, action="append", required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--slots", type=int, default=8)
    given = parser.parse_args()
    shares: dict[str, list[tuple[float, float, float]]] = {}
    for benchmark in map(load_benchmark, given.benchmark):
        for name in benchmark.task_names:
            for seed in range(given.seeds):
                size = {"task": benchmark.task(name), "seed": seed, "num_nodes": given.nodes, "slots": given.slots}
                seconds, packed = Search(**size, is_packed=True).run()
                seconds_timed, timed = Search(**size, is_packed=False).run()
                whole = given.nodes * seconds
                shares.setdefault(name, []).append(
                    (packed / whole, timed / (given.nodes * seconds_timed), seconds / seconds_timed)
                )
    print(f"{len(shares)} tasks, {given.seeds} seeds, {given.nodes} nodes of {given.slots} slots; of all to the end:")
    for index, what in enumerate(("given up by the rule", "gone by timeout", "seconds, against no packing")):
        print(f"{what:<30} {spread({name: [one[index] for one in found] for name, found in shares.items()})}")


def spread(by_task: dict[str, list[float]]) -> str:
    """Geometric mean over tasks with its interval, and the worst task's."""
    logs = np.array([np.mean(np.log(found)) for found in by_task.values()])
    draws = np.random.default_rng(0).choice(logs, (2000, len(logs))).mean(axis=1)
    low, high = np.exp(np.quantile(draws, [0.025, 0.975]))
    return f"{math.exp(logs.mean()):.1%} [{low:.1%}, {high:.1%}], worst task {math.exp(logs.max()):.1%}"


if __name__ == "__main__":
    main()
