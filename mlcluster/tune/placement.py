"""On which kind of worker a piece of training runs: where its predicted dollars are fewest.

Workers are leased for the whole study and billed idle or busy, so no piece changes the bill of its own second. What it
takes is a slot that other pieces want: as long as there are such, a second of a slot is worth what it costs, and the
right place for a piece is where seconds x price of the slot is least. A slot for which there is no such piece would
idle, and its second is worth nothing; then only the time counts until the work is done, for which all slots are paid.
So an idle slot takes a piece that waits for another kind if the piece is done no later for it, and that costs no more.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mlcluster.cost import WorkerKind
from mlcluster.spec import Device

Seconds = Mapping[Device, float]
"""Predicted, by kind of worker; kinds on which a piece cannot be trained are left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """The kind of worker for a piece, and why."""

    worker: Device
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """A piece that stands in line for workers of the kind `home`, and when the first of them would take it up."""

    home: Device
    wait_seconds: float


def cheapest_worker(seconds: Seconds, kinds: Sequence[WorkerKind]) -> Placement:
    """Where predicted seconds x price of a slot is least; of equals, the kind that comes first in `kinds`."""
    able = [kind for kind in kinds if kind.name in seconds]
    assert able, f"no kind of worker can train this: {sorted(seconds)}"
    ranked = sorted(able, key=lambda kind: seconds[kind.name] * kind.usd_per_second)
    if len(ranked) == 1:
        return Placement(worker=ranked[0].name, reason=f"only a {ranked[0].name} worker can train it")
    prices = ", ".join(
        f"{kind.name} {seconds[kind.name]:.3g} s for ${seconds[kind.name] * kind.usd_per_second:.3g}" for kind in ranked
    )
    return Placement(worker=ranked[0].name, reason=f"cheapest: {prices}")


def rather_than_idle(worker: Device, seconds: Seconds, wait: Wait) -> Placement | None:
    """A slot of the kind `worker` that would idle takes the piece, if it is done no later here; else None."""
    if worker not in seconds:
        return None
    there_seconds = wait.wait_seconds + seconds[wait.home]
    if seconds[worker] > there_seconds:
        return None
    return Placement(
        worker=worker,
        reason=f"the {worker} worker would idle, and has it done in {seconds[worker]:.3g} s; the {wait.home} workers "
        f"in {there_seconds:.3g} s, {wait.wait_seconds:.3g} s of waiting included",
    )


def wait_seconds(busy_seconds: Sequence[float], ahead_seconds: Sequence[float], *, num_slots: int) -> float:
    """Until a slot is free for the next in line: those that run need `busy_seconds` more, those ahead come first."""
    free_at = sorted([*busy_seconds, *[0.0] * (num_slots - len(busy_seconds))])
    for seconds in ahead_seconds:
        heapq.heapreplace(free_at, free_at[0] + seconds)
    return free_at[0]


def first_on(
    worker: Device, values: Sequence[int], kinds: Sequence[WorkerKind], seconds_at: Callable[[int], Seconds]
) -> int | None:
    """The smallest of the rising `values` from which a piece belongs on that kind; None where the last does not.

    By bisection, for work that grows along `values`: what is cheaper there at one of them stays so at those above.
    """
    low, high = 0, len(values) - 1
    if cheapest_worker(seconds_at(values[high]), kinds).worker != worker:
        return None
    while low < high:
        middle = (low + high) // 2
        if cheapest_worker(seconds_at(values[middle]), kinds).worker == worker:
            high = middle
        else:
            low = middle + 1
    return values[low]
