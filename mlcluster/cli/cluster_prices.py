"""`prices.cluster`: what a worker costs on the nodes of a cluster file, and what its price leaves out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlcluster.cli.cluster_checking import read_priced
from mlcluster.cli.leasing import price_book
from mlcluster.cluster import (
    NodePrices,
    PricedType,
    SlotPrice,
    cheapest_slot,
)
from mlcluster.cost import PriceBook, cpu_workers, gpu_workers
from mlcluster.errors import SpecError
from mlcluster.spec import ProjectSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerPrices:
    """What a worker of each kind costs, and where that is from, in words."""

    book: PriceBook
    notes: tuple[str, ...] = ()
    head_note: str | None = None
    """What the head costs besides; of a cluster that is connected it is counted."""
    types: tuple[PricedType, ...] = ()
    """Of the cluster file; empty where the project file says the prices."""
    source: str = ""
    """That file's name."""

    @property
    def nodes(self) -> NodePrices:
        """The same for whole machines."""
        return NodePrices(book=self.book, types=self.types, source=self.source)


def worker_prices(spec: ProjectSpec, folder: Path) -> WorkerPrices:
    """Of the cluster file that `prices.cluster` names, from `folder`; else those of the project file.

    Raises:
        SpecError: that file or its price list is not there or wrong, or no type of it can hold a worker on a CPU.
    """
    own = price_book(spec)
    if spec.prices.cluster is None:
        return WorkerPrices(book=own)
    path = folder / spec.prices.cluster
    if not path.is_file():
        raise SpecError(f"prices.cluster = {spec.prices.cluster} is no file in {folder}; name one of cluster-configs/.")
    _, types = read_priced(path)
    cpu = cheapest_slot(types, cpu_workers(own, num_slots=1).resources)
    gpu = cheapest_slot(types, gpu_workers(own, num_slots=1).resources)
    if cpu is None:
        raise SpecError(
            f"prices.cluster = {spec.prices.cluster} has no worker type with a price that holds a CPU; see what "
            f"`mlcluster cluster check {spec.prices.cluster}` says of it."
        )
    # A GPU's price is that of its slot, less the CPU that is in it; a GPU is never for nothing.
    beside = own.gpu_usd_per_hour if gpu is None else max(gpu.usd_per_hour - cpu.usd_per_hour, 0.01 * gpu.usd_per_hour)
    return WorkerPrices(
        book=PriceBook(cpu_usd_per_hour=cpu.usd_per_hour, gpu_usd_per_hour=beside),
        notes=tuple(_notes(types, [("cpu", cpu), ("gpu", gpu)])),
        head_note=_head_note(types),
        types=types,
        source=path.name,
    )


def _notes(types: Sequence[PricedType], slots: Sequence[tuple[str, SlotPrice | None]]) -> Iterator[str]:
    for kind, slot in slots:
        if slot is not None:
            bought = "on spot" if slot.is_spot else "on demand"
            part = "the whole" if slot.slots_per_node == 1 else f"1/{slot.slots_per_node}"
            dearer = _dearest_like(types, slot)
            more = f"; where that falls back, up to ${dearer:.4g}" if dearer > slot.usd_per_hour else ""
            yield (
                f"a {kind} worker is {part} of a {slot.instance_type} {bought} (${slot.usd_per_hour:.4g} an hour){more}"
            )


def _head_note(types: Sequence[PricedType]) -> str | None:
    head = next((one for one in types if one.node.is_head and one.usd_per_hour is not None), None)
    if head is None:
        return None
    return f"the head ({head.node.instance_type}, ${head.usd_per_hour:.4g} an hour) is not in these dollars"


def _dearest_like(types: Sequence[PricedType], slot: SlotPrice) -> float:
    """$ an hour of the same share of the dearest type that offers the same as the slot's."""
    offer = next(one.resources for one in types if one.node.name == slot.node_type)
    return max(
        one.usd_per_hour / slot.slots_per_node
        for one in types
        if one.resources == offer and one.usd_per_hour is not None and one.node.max_nodes > 0
    )
