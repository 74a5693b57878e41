"""What each node type of a plan costs and offers, and what is wrong with those prices."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlcluster.cluster.findings import Finding, key_value
from mlcluster.cluster.plan import ClusterPlan, NodeType
from mlcluster.cluster.price_list import NodePrice, PriceList
from mlcluster.spec import YamlDocument

OLD_DAYS = 180
"""Of 868 AWS types, 272 changed their price within 16 months."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PricedType:
    """A node type with its price, where the list has one."""

    node: NodeType
    price: NodePrice | None

    @property
    def usd_per_hour(self) -> float | None:
        """Of one node, idle or busy; None where it is not known. Never zero."""
        return None if self.price is None else self.price.usd_of_hour(is_spot=self.node.is_spot)

    @property
    def resources(self) -> Mapping[str, float]:
        """What a node offers: what Ray is told, else what such a machine has. Empty where neither is known."""
        machine: dict[str, float] = {}
        if self.price is not None:
            machine = {"CPU": float(self.price.vcpu)}
            if self.price.gpus:
                machine["GPU"] = float(self.price.gpus)
        return {**machine, **self.node.resources}


def price_types(plan: ClusterPlan, prices: PriceList) -> tuple[PricedType, ...]:
    """The plan's types, each with its price."""
    return tuple(PricedType(node=node, price=_price_of(node, prices)) for node in plan.node_types)


def _price_of(node: NodeType, prices: PriceList) -> NodePrice | None:
    return None if node.instance_type is None else prices.prices.get(node.instance_type)


def price_findings(
    plan: ClusterPlan, document: YamlDocument, prices: PriceList, *, today: datetime.date
) -> list[Finding]:
    """Types that the list does not have, prices that are old, of another region, or a guess from above."""
    types = price_types(plan, prices)
    found = [_unknown(one, document, prices) for one in types if one.price is None and one.node.instance_type]
    if any(one.node.instance_type is None for one in types):
        found.append(_nameless(plan, document, types))
    return [*found, *_doubtful(plan, document, types, prices, today)]


def _unknown(one: PricedType, document: YamlDocument, prices: PriceList) -> Finding:
    name = one.node.instance_type or ""
    near = prices.nearest(name)
    return Finding(
        level="error",
        where=document.where(one.node.path),
        problem=f"{key_value(one.node.path, name)} is not in {prices.source}, so it has no price",
        fix=f"did you mean {near}, or add it there with its source and date" if near else "add it there",
    )


def _nameless(plan: ClusterPlan, document: YamlDocument, types: Sequence[PricedType]) -> Finding:
    nameless = next(one.node for one in types if one.node.instance_type is None)
    return Finding(
        level="warning",
        where=document.where(nameless.path),
        problem=f"{key_value(nameless.path, None)} names no type of a cloud, so an hour of it has no listed price",
        fix="the project's prices.cpu_hour and prices.gpu_hour count"
        if plan.provider == "local"
        else "name one, as nodeSelector node.kubernetes.io/instance-type",
    )


def _doubtful(
    plan: ClusterPlan,
    document: YamlDocument,
    types: Sequence[PricedType],
    prices: PriceList,
    today: datetime.date,
) -> Iterator[Finding]:
    told: set[str] = set()
    for one in types:
        price, where = one.price, document.where(one.node.path)
        if price is None:
            continue
        age_days = (today - price.as_of).days
        if age_days > OLD_DAYS and price.source not in told:
            told.add(price.source)
            yield Finding(
                level="warning",
                where=where,
                problem=f"the prices of {prices.source} from {price.source} are of {price.as_of}, {age_days} days old",
                fix="look them up again, and correct the date with them",
            )
        if plan.region is not None and price.region != plan.region and f"{price.source} region" not in told:
            told.add(f"{price.source} region")
            yield Finding(
                level="warning",
                where=where,
                problem=f"the prices of {prices.source} from {price.source} are of {price.region}, not {plan.region}",
                fix="prices differ between regions; add a source with those of yours",
            )
        if one.node.is_spot and price.spot_usd_per_hour is None:
            yield Finding(
                level="warning",
                where=where,
                problem=f"{price.instance_type} has no spot price in {prices.source}, and counts as on demand",
                fix="add spot_usd_per_hour to have a forecast that is not too high",
            )
