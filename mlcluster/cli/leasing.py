"""`workers:` and the machine, made into the workers that a run leases, and what a GPU is good for at these prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlcluster.cost import PriceBook, WorkerKind, all_slots_usd_per_second, cpu_workers, gpu_workers
from mlcluster.errors import SpecError
from mlcluster.spec import ProjectSpec
from mlcluster.train import FAMILIES, DataSize, Encoding
from mlcluster.tune import Crossover, crossovers

CLUSTER_CPUS_PER_REPLICA = 0.5
"""What a replica of the endpoint reserves on a cluster; it uses a whole core when it is busy and the core is free."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What a run may use."""

    num_cpus: int
    num_gpus: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """The workers of a run, billed from its first second to its last."""

    kinds: tuple[WorkerKind, ...]
    crossovers: tuple[Crossover, ...] = ()
    """Empty where there is no GPU, or no model that can use one."""
    idle_gpus: int = 0
    """GPUs that are there and not leased, because nothing is cheaper on them."""
    price_notes: tuple[str, ...] = ()
    """Where the prices are from, and what they leave out; empty where the project file says them."""
    beside_usd_per_second: float = 0.0
    """Of the cluster's nodes beyond these workers: the head, and what others hold or nobody can use."""

    @property
    def usd_per_second(self) -> float:
        """Of all workers, and of what is paid for beside them."""
        return all_slots_usd_per_second(self.kinds) + self.beside_usd_per_second


def price_book(spec: ProjectSpec) -> PriceBook:
    """The prices of the project file."""
    return PriceBook(cpu_usd_per_hour=spec.prices.cpu_hour, gpu_usd_per_hour=spec.prices.gpu_hour)


def lease_workers(
    spec: ProjectSpec, machine: Machine, sizes: Mapping[Encoding, DataSize], prices: PriceBook | None = None
) -> Lease:
    """`cpu`: CPUs. `gpu`: GPUs, each with a CPU. `both`: those, and the CPUs that are left.

    `auto` is `both` where there is a GPU and some configuration of the models is cheaper on it, else `cpu`: a GPU
    on which nothing is cheaper would be on the bill for the whole search and make it shorter. `prices` are those of the
    project file where they are left out.

    Raises:
        SpecError: a GPU is asked for and there is none, or a model would have no worker.
    """
    prices = prices or price_book(spec)
    num_gpus = min(machine.num_gpus, machine.num_cpus)
    num_left = machine.num_cpus - num_gpus
    only_cpus = (cpu_workers(prices, num_slots=machine.num_cpus),)
    if spec.workers in ("gpu", "both"):
        _check_gpu_workers(spec, machine)
    if spec.workers == "cpu" or num_gpus == 0 or (spec.workers == "auto" and num_left == 0):
        return Lease(kinds=only_cpus)
    with_gpus = cpu_workers(prices, num_slots=num_left), gpu_workers(prices, num_slots=num_gpus)
    found = crossovers(spec.models, sizes, with_gpus)
    if spec.workers == "gpu":
        return Lease(kinds=with_gpus[1:], crossovers=found)
    if spec.workers == "both" or any(one.first_on_gpu is not None for one in found):
        return Lease(kinds=with_gpus, crossovers=found)
    return Lease(kinds=only_cpus, crossovers=found, idle_gpus=num_gpus)


def _check_gpu_workers(spec: ProjectSpec, machine: Machine) -> None:
    if machine.num_gpus == 0:
        raise SpecError(
            f"workers = {spec.workers} asks for a GPU, and there are {machine.num_cpus} CPUs and no GPU here; "
            "set workers: auto or cpu, or run on a cluster that has GPU nodes."
        )
    if spec.workers == "both" and machine.num_cpus <= machine.num_gpus:
        raise SpecError(
            f"workers = both asks for CPUs beside the GPUs, and each of the {machine.num_gpus} GPUs here takes one of "
            f"the {machine.num_cpus} CPUs; set workers: gpu or cpu, or run where there are more CPUs."
        )
    on_cpus = [name for name in spec.models if "gpu" not in FAMILIES[name].devices]
    if spec.workers == "gpu" and on_cpus:
        raise SpecError(
            f"workers = gpu leaves no worker for {', '.join(on_cpus)}, which train on CPUs only; "
            "set workers: both or auto, or take them out of models."
        )


def lease_lines(lease: Lease) -> list[str]:
    """What is leased at which price, and from which size on a training goes to a GPU, in words."""
    lines = [f"{kind.num_slots} {kind.name} at ${kind.usd_per_second * 3600:.4g} an hour each" for kind in lease.kinds]
    lines = [", ".join(lines)]
    if lease.idle_gpus:
        lines.append(f"{lease.idle_gpus} gpu not leased: nothing is cheaper on it at its price")
    if lease.beside_usd_per_second:
        usd_per_hour = 3600 * lease.beside_usd_per_second
        lines.append(f"the cluster's nodes beyond these workers, the head included: ${usd_per_hour:.4g} an hour")
    return [*lines, *lease.price_notes, *(_crossover_line(one) for one in lease.crossovers)]


def _crossover_line(one: Crossover) -> str:
    where = f"{one.family}, other values {one.others}"
    if one.first_on_gpu is None:
        return f"{where}: cpu, for a gpu costs {one.gpu_to_cpu:.2g} times as much even at the largest {one.axis}"
    return f"{where}: gpu from {one.axis} {one.first_on_gpu} on"
