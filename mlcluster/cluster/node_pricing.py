"""What a machine that has joined a cluster costs: by the cluster file's node types, or by the project's own prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlcluster.cluster.pricing import PricedType
from mlcluster.cost import Node, PriceBook

_COUNTED = ("CPU", "GPU")


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeFacts:
    """What the cluster itself tells of one of its machines."""

    node_id: str
    address: str
    node_type: str | None
    """By the cluster file's name for it; None where the cluster does not say."""
    is_spot: bool | None
    """None where the cluster does not say."""
    is_head: bool
    resources: Mapping[str, float]
    launched_at: float
    """Seconds since the epoch."""
    released_at: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class NodePrices:
    """`types` of the cluster file that `prices.cluster` names; without, `book` prices each CPU and GPU."""

    book: PriceBook
    types: tuple[PricedType, ...] = ()
    source: str = ""
    """The cluster file's name."""

    def node(self, facts: NodeFacts) -> Node:
        """That machine with its price, or with why it has none.

        Without a type the dearest that offers the same counts, for spot may have been bought on demand.
        """
        if not self.types:
            usd = 3600 * self.book.node_usd_per_second(
                num_cpus=facts.resources.get("CPU", 0.0), num_gpus=facts.resources.get("GPU", 0.0)
            )
            return _node(facts, None, usd, "prices.cpu_hour and prices.gpu_hour")
        fitting = [one for one in self.types if self._fits(one, facts)]
        priced = [one for one in fitting if one.usd_per_hour is not None]
        if not priced:
            what = facts.node_type or f"a node with {_words(facts.resources)}"
            return _node(facts, None, None, f"{self.source} has no price for {what}")
        dearest = max(priced, key=lambda one: one.usd_per_hour or 0.0)
        guess = "" if facts.node_type or len(priced) == 1 else ", the dearest that offers the same"
        assert dearest.price is not None
        source = f"{dearest.price.instance_type} of {dearest.price.source}, {dearest.price.as_of}{guess}"
        return _node(facts, dearest, dearest.usd_per_hour, source)

    def _fits(self, one: PricedType, facts: NodeFacts) -> bool:
        if facts.node_type is not None:
            return one.node.name == facts.node_type
        if facts.is_head or one.node.is_head:
            return facts.is_head == one.node.is_head
        if facts.is_spot is not None and facts.is_spot != one.node.is_spot:
            return False
        return all(one.resources.get(name, 0.0) == facts.resources.get(name, 0.0) for name in _COUNTED)


def _node(facts: NodeFacts, found: PricedType | None, usd_per_hour: float | None, source: str) -> Node:
    is_spot = facts.is_spot
    if is_spot is None and found is not None and facts.node_type is not None:
        is_spot = found.node.is_spot
    name = found.node.name if found is not None else facts.node_type
    return Node(
        node_id=facts.node_id,
        node_type=name or ("head" if facts.is_head else "worker"),
        is_spot=is_spot,
        is_head=facts.is_head,
        resources={name: amount for name, amount in facts.resources.items() if name in _COUNTED},
        usd_per_hour=usd_per_hour,
        price_source=source,
        launched_at=facts.launched_at,
        released_at=facts.released_at,
    )


def _words(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{resources.get(name, 0.0):g} {name}" for name in _COUNTED)
