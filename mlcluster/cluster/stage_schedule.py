"""How long a stage of a study keeps some nodes, and when each of them is free again. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeOffer:
    """Nodes of one type that may be asked for."""

    name: str
    usd_per_hour: float
    slots: int
    """Trials that a node trains at once, each on one slot."""
    max_nodes: int
    start_seconds: float = 180.0
    """From asking for a node to its first trial, billed."""
    speed: float = 1.0
    """Of a slot, against the one that a stage's seconds are of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What is trained until the next halving, which waits for all of it."""

    seconds: tuple[float, ...]
    """Of each trial, on one slot of speed 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeedUp:
    """How much sooner a trial is done on several slots (Amdahl, AFIPS 1967); 0 for trainings of one slot."""

    parallel_share: float = 0.0

    def of(self, slots: int) -> float:
        """Times as fast on `slots` as on one."""
        return 1.0 / (1.0 - self.parallel_share + self.parallel_share / slots)


@dataclass(frozen=True, kw_only=True, slots=True)
class StageSchedule:
    """A stage on some nodes, longest trial first, each to the slot that is free first."""

    seconds: float
    """Until the last trial is done."""
    free_after: tuple[float, ...]
    """Of each node, from the first to the last: when it has no work and none waits. Rises."""

    def node_seconds(self, keep: int) -> float:
        """What is billed where `keep` nodes, those that are free last, stay for the next stage and the others go."""
        gone = self.free_after[: len(self.free_after) - keep]
        return sum(gone) + keep * self.seconds


def schedule_stage(stage: Stage, offer: NodeOffer, num_nodes: int, speed_up: SpeedUp) -> StageSchedule:
    """The stage on `num_nodes` of a type; where there are more slots than trials, each trial gets several.

    Longest processing time first (Graham, SIAM J. Appl. Math. 17(2), 1969): at most 4/3 of the shortest schedule.
    """
    per_trial = max(1, num_nodes * offer.slots // len(stage.seconds)) if speed_up.parallel_share else 1
    factor = 1.0 / (offer.speed * speed_up.of(per_trial))
    num_lanes = num_nodes * offer.slots // per_trial
    lanes = [(0.0, lane) for lane in range(num_lanes)]
    for seconds in sorted(stage.seconds, reverse=True):
        free_at, lane = lanes[0]
        heapq.heapreplace(lanes, (free_at + seconds * factor, lane))
    free = [0.0] * num_nodes
    for free_at, lane in lanes:
        for slot in range(lane * per_trial, (lane + 1) * per_trial):
            node = slot // offer.slots
            free[node] = max(free[node], free_at)
    return StageSchedule(seconds=max(free), free_after=tuple(sorted(free)))


def useful_sizes(stages: Sequence[Stage], offer: NodeOffer, speed_up: SpeedUp) -> list[int]:
    """Numbers of nodes of which the next smaller one takes longer in some stage, if trials were equally long."""
    found = {1}
    for stage in stages:
        count = len(stage.seconds)
        found |= {-(-count // (waves * offer.slots)) for waves in range(1, count + 1)}
        if speed_up.parallel_share:
            found |= {-(-count * times // offer.slots) for times in range(1, 17)}
    return sorted({min(size, offer.max_nodes) for size in found if size > 0})


def halving_stages(num_trials: int, seconds: float, *, reduction_factor: int) -> tuple[Stage, ...]:
    """Successive halving of trials of which a whole training takes `seconds`; the last stage ends one.

    Of n trials, n / factor go on to factor times the training, until one is left (Jamieson & Talwalkar, AISTATS 2016).
    """
    counts = [num_trials]
    while counts[-1] >= reduction_factor:
        counts.append(counts[-1] // reduction_factor)
    ends = [seconds / reduction_factor ** (len(counts) - 1 - stage) for stage in range(len(counts))]
    begins = [0.0, *ends[:-1]]
    return tuple(Stage(seconds=(end - begin,) * count) for count, begin, end in zip(counts, begins, ends, strict=True))
