"""What a worker costs on a cluster: its share of the cheapest node that can hold it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlcluster.cluster.pricing import PricedType


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotPrice:
    """One worker's part of a node that is full of such workers."""

    node_type: str
    instance_type: str
    is_spot: bool
    slots_per_node: int
    usd_per_hour: float


def slots_on(offer: Mapping[str, float], request: Mapping[str, float]) -> int:
    """How many workers that ask for `request` a node holds that offers `offer`."""
    asked = {key: amount for key, amount in request.items() if amount > 0}
    return min((int(offer.get(key, 0.0) / amount + 1e-9) for key, amount in asked.items()), default=0)


def cheapest_slot(types: Sequence[PricedType], request: Mapping[str, float]) -> SlotPrice | None:
    """The node type whose share for such a worker costs least; None where no type with a price can hold one."""
    found = [price for one in types if (price := _slot_on(one, request)) is not None]
    return min(found, key=lambda slot: slot.usd_per_hour, default=None)


def _slot_on(one: PricedType, request: Mapping[str, float]) -> SlotPrice | None:
    slots = slots_on(one.resources, request)
    if slots == 0 or one.node.max_nodes == 0 or one.price is None or one.usd_per_hour is None:
        return None
    return SlotPrice(
        node_type=one.node.name,
        instance_type=one.price.instance_type,
        is_spot=one.node.is_spot,
        slots_per_node=slots,
        usd_per_hour=one.usd_per_hour / slots,
    )
