"""How many nodes of which type to ask for, stage by stage: the cheapest plan that meets a deadline.

The question of RubberBand (Misra et al., EuroSys 2021): in a study that halves its trials, fewer and fewer can be
trained at once, so that a cluster of one size idles more and more; what should its size be in each stage? Nodes are
billed by the second, from the moment they are asked for. Found exactly, over the sizes that can matter, by keeping for
each stage and size those plans that no other beats in both time and dollars (dynamic programming over Pareto fronts).
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mlcluster.cluster.stage_schedule import NodeOffer, SpeedUp, Stage, StageSchedule, schedule_stage, useful_sizes
from mlcluster.errors import SpecError

ONE_SLOT = SpeedUp()
"""Each trial on one slot, as all our learners train."""
_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """By when, and for how much."""

    deadline_seconds: float
    budget_usd: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StageNodes:
    """The nodes of one stage."""

    offer: NodeOffer
    num_nodes: int
    start_seconds: float
    """Waited for nodes that were not there."""
    seconds: float
    """Then, until the last trial is done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ElasticPlan:
    """What to ask for in each stage, what that takes, and whether it does what was asked."""

    stages: tuple[StageNodes, ...]
    seconds: float
    usd: float
    meets_deadline: bool
    meets_budget: bool
    reason: str


@dataclass(frozen=True, slots=True)
class _Size:
    offer: NodeOffer
    num_nodes: int
    schedules: tuple[StageSchedule, ...]
    """Of each stage."""

    @property
    def usd_per_second(self) -> float:
        return self.offer.usd_per_hour / _SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True)
class _Partial:
    """A plan up to a stage, whose own dollars are counted once it is known which of its nodes stay."""

    seconds: float
    usd: float
    size: _Size
    start_seconds: float
    before: _Partial | None


def plan_nodes(
    stages: Sequence[Stage],
    offers: Sequence[NodeOffer],
    goal: Goal,
    *,
    speed_up: SpeedUp = ONE_SLOT,
    held: tuple[NodeOffer, int] | None = None,
) -> ElasticPlan:
    """The cheapest plan within the deadline; where there is none or it is too dear, what comes next to it.

    `held` are nodes that run already, for a study that has got to the first of `stages`: they need no start.

    Raises:
        SpecError: there is nothing to train, or no node to train it on.
    """
    sizes = _sizes(stages, offers, speed_up)
    fronts = {id(size): [_begin(size, held)] for size in sizes}
    for number in range(1, len(stages)):
        fronts = _next_fronts(fronts, sizes, number)
    whole = [_end(partial, len(stages) - 1) for front in fronts.values() for partial in front]
    return _chosen([(partial, *_totals(partial)) for partial in _pareto(whole)], goal, stages)


def best_static_plan(
    stages: Sequence[Stage],
    offers: Sequence[NodeOffer],
    goal: Goal,
    *,
    speed_up: SpeedUp = ONE_SLOT,
) -> ElasticPlan:
    """The same where one size must last for the whole study, and is on the bill until its end."""
    found = []
    for size in _sizes(stages, offers, speed_up):
        partial = _begin(size)
        for number in range(1, len(stages)):
            paid = size.schedules[number - 1].seconds * size.num_nodes * size.usd_per_second
            partial = _Partial(partial.seconds + size.schedules[number].seconds, partial.usd + paid, size, 0.0, partial)
        last = size.schedules[-1].seconds * size.num_nodes * size.usd_per_second
        found.append((partial, partial.seconds, partial.usd + last))
    return _chosen(found, goal, stages)


def _sizes(stages: Sequence[Stage], offers: Sequence[NodeOffer], speed_up: SpeedUp) -> list[_Size]:
    if not stages or not all(stage.seconds for stage in stages):
        raise SpecError("stages = 0 trials leaves nothing to plan for; give each stage its trials.")
    sizes = [
        _Size(offer, count, tuple(schedule_stage(stage, offer, count, speed_up) for stage in stages))
        for offer in offers
        if offer.max_nodes > 0
        for count in useful_sizes(stages, offer, speed_up)
    ]
    if not sizes:
        raise SpecError("offers = none leaves no node to train on; give a worker type a max_workers above 0.")
    return sizes


def _begin(size: _Size, held: tuple[NodeOffer, int] | None = None) -> _Partial:
    is_there = held is not None and held[0] == size.offer and held[1] >= size.num_nodes
    start = 0.0 if is_there else size.offer.start_seconds
    paid = start * size.num_nodes * size.usd_per_second
    return _Partial(start + size.schedules[0].seconds, paid, size, start, None)


def _next_fronts(fronts: dict[int, list[_Partial]], sizes: Sequence[_Size], number: int) -> dict[int, list[_Partial]]:
    """For each size in stage `number`, the plans that end in it; `fronts` are those of the stage before."""
    swapped = _pareto(_closed(partial, 0, number - 1) for front in fronts.values() for partial in front)
    found = {}
    for size in sizes:
        reached: list[_Partial] = [_grown(partial, size, number) for partial in swapped]
        for other in sizes:
            if other.offer is not size.offer:
                continue
            keep = min(other.num_nodes, size.num_nodes)
            for partial in fronts[id(other)]:
                closed = _closed(partial, keep, number - 1)
                is_enough = other.num_nodes >= size.num_nodes
                reached.append(_kept(closed, size, number) if is_enough else _grown(closed, size, number))
        found[id(size)] = _pareto(reached)
    return found


def _closed(partial: _Partial, keep: int, number: int) -> _Partial:
    """With the dollars of its last stage, of which `keep` nodes stay."""
    size = partial.size
    paid = size.schedules[number].node_seconds(keep) * size.usd_per_second
    return _Partial(partial.seconds, partial.usd + paid, size, partial.start_seconds, partial.before)


def _kept(closed: _Partial, size: _Size, number: int) -> _Partial:
    return _Partial(closed.seconds + size.schedules[number].seconds, closed.usd, size, 0.0, closed)


def _grown(closed: _Partial, size: _Size, number: int) -> _Partial:
    """All wait for the new nodes, and all are paid for meanwhile."""
    start = size.offer.start_seconds
    paid = start * size.num_nodes * size.usd_per_second
    seconds = closed.seconds + start + size.schedules[number].seconds
    return _Partial(seconds, closed.usd + paid, size, start, closed)


def _end(partial: _Partial, number: int) -> _Partial:
    return _closed(partial, 0, number)


def _totals(partial: _Partial) -> tuple[float, float]:
    return partial.seconds, partial.usd


def _pareto(partials: Iterable[_Partial]) -> list[_Partial]:
    """Those that no other beats in both, from the fastest to the cheapest."""
    front: list[_Partial] = []
    for partial in sorted(partials, key=_totals):
        if not front or partial.usd < front[-1].usd - 1e-12:
            front.append(partial)
    return front


def _chosen(found: Sequence[tuple[_Partial, float, float]], goal: Goal, stages: Sequence[Stage]) -> ElasticPlan:
    """Deadline before budget before dollars; of what misses one, that which misses it least."""
    budget = float("inf") if goal.budget_usd is None else goal.budget_usd
    in_time = [one for one in found if one[1] <= goal.deadline_seconds]
    payable = [one for one in found if one[2] <= budget]
    cheapest_in_time = min(in_time, key=lambda one: one[2], default=None)
    if cheapest_in_time is not None and cheapest_in_time[2] <= budget:
        return _plan(cheapest_in_time, goal, stages, "the cheapest within the deadline")
    if payable:
        reason = (
            "no size meets the deadline; the fastest within the budget"
            if cheapest_in_time is None
            else f"the deadline would cost ${cheapest_in_time[2]:.4g}; the fastest within the budget"
        )
        return _plan(min(payable, key=lambda one: (one[1], one[2])), goal, stages, reason)
    reason = "the budget holds no plan at all; the cheapest there is"
    return _plan(min(found, key=lambda one: (one[2], one[1])), goal, stages, reason)


def _plan(one: tuple[_Partial, float, float], goal: Goal, stages: Sequence[Stage], reason: str) -> ElasticPlan:
    partial, seconds, usd = one
    chain = list(_chain(partial))[::-1]
    nodes = tuple(
        StageNodes(
            offer=step.size.offer,
            num_nodes=step.size.num_nodes,
            start_seconds=step.start_seconds,
            seconds=step.size.schedules[number].seconds,
        )
        for number, step in enumerate(chain)
    )
    assert len(nodes) == len(stages)
    return ElasticPlan(
        stages=nodes,
        seconds=seconds,
        usd=usd,
        meets_deadline=seconds <= goal.deadline_seconds,
        meets_budget=goal.budget_usd is None or usd <= goal.budget_usd,
        reason=reason,
    )


def _chain(partial: _Partial) -> Iterator[_Partial]:
    step: _Partial | None = partial
    while step is not None:
        yield step
        step = step.before
