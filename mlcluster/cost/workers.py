"""The kinds of worker that a stage leases, each at its own price.

A GPU worker holds a GPU and the CPU that drives it, so its price is that of both; it is leased, and billed, whether it
trains or idles, like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlcluster.cost.prices import SECONDS_PER_HOUR, PriceBook
from mlcluster.spec import Device


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerKind:
    """Workers of one kind, each of which trains one piece at a time."""

    name: Device
    """What they train on."""
    num_slots: int
    usd_per_second: float
    """Of one slot, idle or busy."""
    resources: Mapping[str, float] = field(default_factory=lambda: {"CPU": 1.0})
    """What Ray sets aside for a slot."""


def cpu_workers(prices: PriceBook, *, num_slots: int) -> WorkerKind:
    """One CPU a slot."""
    return WorkerKind(name="cpu", num_slots=num_slots, usd_per_second=prices.cpu_usd_per_hour / SECONDS_PER_HOUR)


def gpu_workers(prices: PriceBook, *, num_slots: int) -> WorkerKind:
    """One GPU a slot, and one CPU to drive it."""
    return WorkerKind(
        name="gpu",
        num_slots=num_slots,
        usd_per_second=prices.node_usd_per_second(num_cpus=1, num_gpus=1),
        resources={"CPU": 1.0, "GPU": 1.0},
    )


def all_slots_usd_per_second(kinds: Sequence[WorkerKind]) -> float:
    """What a second of all workers costs, idle or busy."""
    return sum(kind.num_slots * kind.usd_per_second for kind in kinds)
