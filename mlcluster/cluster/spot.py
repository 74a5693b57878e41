"""What happens to a cluster where the cloud has no spot node."""

from __future__ import annotations

from collections.abc import Iterator

from mlcluster.cluster.findings import Finding, key_value, value_at
from mlcluster.cluster.plan import ClusterPlan, NodeType
from mlcluster.cluster.reading import SPOT_FIRST
from mlcluster.spec import YamlDocument


def spot_findings(plan: ClusterPlan, document: YamlDocument) -> list[Finding]:
    """A warning for each way in which a study would wait for spot nodes that there are not."""
    spot = [node for node in plan.workers if node.is_spot and node.max_nodes > 0]
    return [*_asks_for_ever(plan, document, spot), *_without_another(plan, document, spot)]


def _asks_for_ever(plan: ClusterPlan, document: YamlDocument, spot: list[NodeType]) -> Iterator[Finding]:
    path = ("provider", "type")
    given = value_at(document.values, path)
    if plan.provider == "aws" and spot and given == "aws":
        yield Finding(
            level="warning",
            where=document.where(path),
            problem=f"{key_value(path, given)} asks EC2 for spot nodes for ever where there are none (ray#20774)",
            fix=f"write type: external and module: {SPOT_FIRST}, which then buys them on demand",
        )


def _without_another(plan: ClusterPlan, document: YamlDocument, spot: list[NodeType]) -> Iterator[Finding]:
    for node in spot:
        others = [other for other in plan.workers if not other.is_spot and other.resources == node.resources]
        if not others:
            yield Finding(
                level="warning",
                where=document.where(node.path),
                problem=f"{key_value(node.path, None)} has no type on demand beside it that offers the same",
                fix="add one with the same resources and a lower priority, or studies wait while there is no spot",
            )
        elif max(other.priority for other in others) >= node.priority:
            yield Finding(
                level="warning",
                where=document.where(node.path),
                problem=f"{key_value((*node.path, 'priority'), node.priority)} is not above that of {others[0].name}",
                fix="give the spot type the higher priority, or the one on demand is started first",
            )
