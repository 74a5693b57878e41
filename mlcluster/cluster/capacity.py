"""Whether what a project asks of Ray can ever be had: what no node type can hold waits for ever, without a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlcluster.cluster.findings import Finding
from mlcluster.cluster.plan import ClusterPlan
from mlcluster.cluster.pricing import PricedType
from mlcluster.cluster.slots import slots_on
from mlcluster.cost import PriceBook, cpu_workers, gpu_workers
from mlcluster.spec import ProjectSpec

_ANY_PRICE = PriceBook(cpu_usd_per_hour=1.0, gpu_usd_per_hour=1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """`count` pieces, each to be held by one node."""

    key: str
    """Of the project file, as `key = value`."""
    what: str
    resources: Mapping[str, float]
    count: int = 1


def requests_of(spec: ProjectSpec, *, cpus_per_replica: float) -> tuple[Request, ...]:
    """What a project asks for: trials on each kind of worker that it must have, data tasks, and replicas."""
    key = f"workers = {spec.workers}"
    cpu = Request(key=key, what="a trial on a CPU", resources=cpu_workers(_ANY_PRICE, num_slots=1).resources)
    gpu = Request(key=key, what="a trial on a GPU", resources=gpu_workers(_ANY_PRICE, num_slots=1).resources)
    trials = {"gpu": (gpu,), "both": (cpu, gpu)}.get(spec.workers, (cpu,))
    replicas = spec.serve.replicas
    return (
        *trials,
        Request(key=f"data.source = {spec.data.source}", what="a task of Ray Data", resources={"CPU": 1.0}),
        Request(
            key=f"serve.replicas = {replicas.min}..{replicas.max}",
            what="a replica" if replicas.min <= 1 else f"{replicas.min} replicas at least",
            resources={"CPU": cpus_per_replica},
            count=max(1, replicas.min),
        ),
    )


def capacity_findings(plan: ClusterPlan, types: Sequence[PricedType], requests: Sequence[Request]) -> list[Finding]:
    """An error for each request that no node type holds, or that the largest size is too small for.

    Types of which neither the file nor the price list says what they offer are taken to hold anything.
    """
    if any(not one.resources and one.node.max_nodes > 0 for one in types):
        return []
    return [finding for request in requests if (finding := _unmet(plan, types, request)) is not None]


def _unmet(plan: ClusterPlan, types: Sequence[PricedType], request: Request) -> Finding | None:
    room = _most_slots(plan, types, request.resources)
    if room >= request.count:
        return None
    asked = _text(request.resources)
    each = "" if request.count == 1 else " each"
    held = f"no node type can hold {asked}" if room == 0 else f"the largest size holds {room} of {asked}"
    offers = ", ".join(f"{one.node.name} {_text(one.resources)}" for one in types if one.node.max_nodes > 0)
    return Finding(
        level="error",
        where=plan.source,
        problem=f"{request.key} asks for {request.what} ({asked}{each}), and {held} ({offers})",
        fix="give a type those resources and a max_workers above 0, or ask for less; it would wait for ever",
    )


def _most_slots(plan: ClusterPlan, types: Sequence[PricedType], resources: Mapping[str, float]) -> int:
    """How many pieces the cluster holds at most: on the head, and on the roomiest workers."""
    total, room = 0, plan.max_workers
    for slots, one in sorted(((slots_on(one.resources, resources), one) for one in types), key=lambda pair: -pair[0]):
        count = 1 if one.node.is_head else min(room, one.node.max_nodes)
        total += slots * count
        room -= 0 if one.node.is_head else count
    return total


def _text(resources: Mapping[str, float]) -> str:
    return " + ".join(f"{amount:g} {name}" for name, amount in resources.items()) or "nothing"
