"""Dollars per hour of a cluster at its smallest, usual and largest size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlcluster.cluster.plan import ClusterPlan
from mlcluster.cluster.pricing import PricedType


@dataclass(frozen=True, kw_only=True, slots=True)
class HourlyForecast:
    """$ and watts of one hour, without disks, addresses and traffic."""

    min_usd: float
    """The head, and the workers that are always there."""
    typical_usd: float
    """Half of the workers that may be there, of the types that the autoscaler takes first."""
    max_usd: float
    """The dearest that `max_workers` allows."""
    max_watts: float
    """At full load of the largest size, estimated."""


def forecast_hour(plan: ClusterPlan, types: Sequence[PricedType]) -> HourlyForecast | None:
    """What an hour of the cluster costs; None where a type that may be started has no price."""
    used = [one for one in types if one.node.max_nodes > 0]
    if any(one.usd_per_hour is None for one in used):
        return None
    workers = [one for one in used if not one.node.is_head]
    fixed = sum(_usd(one) * one.node.min_nodes for one in used)
    room = max(0, plan.max_workers - sum(one.node.min_nodes for one in workers))
    preferred = _preferred(workers)
    typical = _cheapest_first(preferred, math.ceil(room / 2), share=0.5)
    return HourlyForecast(
        min_usd=fixed,
        typical_usd=fixed + typical,
        max_usd=fixed + _dearest(((_usd(one), _spare(one)) for one in workers), room),
        max_watts=sum(_watts(one) * one.node.min_nodes for one in used)
        + _dearest(((_watts(one), _spare(one)) for one in workers), room),
    )


def _usd(one: PricedType) -> float:
    assert one.usd_per_hour is not None, "types without a price have no forecast"
    return one.usd_per_hour


def _watts(one: PricedType) -> float:
    return 0.0 if one.price is None else one.price.watts


def _spare(one: PricedType) -> int:
    return max(0, one.node.max_nodes - one.node.min_nodes)


def _preferred(workers: Sequence[PricedType]) -> list[PricedType]:
    """Of types that offer the same, the one of the highest priority; the others are what it falls back on."""
    best: dict[tuple[tuple[str, float], ...], PricedType] = {}
    for one in workers:
        offer = tuple(sorted(one.resources.items()))
        if offer not in best or one.node.priority > best[offer].node.priority:
            best[offer] = one
    return list(best.values())


def _cheapest_first(types: Sequence[PricedType], room: int, *, share: float) -> float:
    usd = 0.0
    for one in sorted(types, key=_usd):
        count = min(room, math.ceil(share * _spare(one)))
        usd += count * _usd(one)
        room -= count
    return usd


def _dearest(nodes: Iterable[tuple[float, int]], room: int) -> float:
    """The largest sum over at most `room` nodes, each pair a value and how many nodes have it."""
    total = 0.0
    for value, count in sorted(nodes, reverse=True):
        taken = min(room, count)
        total += taken * value
        room -= taken
    return total
