"""From a Ray cluster file to a `ClusterPlan`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlcluster.cluster.documents import KeyPath
from mlcluster.cluster.findings import key_value, value_at
from mlcluster.cluster.plan import PROVIDERS, ClusterPlan, NodeType, Provider
from mlcluster.errors import SpecError
from mlcluster.spec import YamlDocument

_DEFAULT_IDLE_MINUTES = 5.0
"""Ray's, for every cloud."""
_DEFAULT_MAX_WORKERS = 2
"""Ray's, likewise."""
SPOT_FIRST = "mlcluster.cluster.ray_aws.SpotFirst"
"""Ours: AWS, with spot nodes that are bought on demand where there are none."""
TYPES_KEY = "available_node_types"


def read_plan(document: YamlDocument) -> ClusterPlan:
    """The machines of a Ray cluster file that has passed Ray's own schema.

    Raises:
        SpecError: the provider is none of those known here, or there is no head.
    """
    values = document.values
    provider = _provider(document)
    node_types = _own_machines(document) if provider == "local" else _cloud_types(document, provider)
    return ClusterPlan(
        source=document.source,
        name=str(values.get("cluster_name", "")),
        provider=provider,
        region=value_at(values, ("provider", "location" if provider == "azure" else "region")),
        node_types=node_types,
        max_workers=int(values.get("max_workers", _DEFAULT_MAX_WORKERS)),
        idle_minutes=float(values.get("idle_timeout_minutes", _DEFAULT_IDLE_MINUTES)),
    )


def _provider(document: YamlDocument) -> Provider:
    path: KeyPath = ("provider", "type")
    given = value_at(document.values, path)
    if given == "external" and value_at(document.values, ("provider", "module")) == SPOT_FIRST:
        return "aws"
    found = next((provider for provider in PROVIDERS if provider == given), None)
    if found is None or found == "kuberay":
        known = ", ".join(PROVIDERS[:-1])
        raise SpecError(f"{document.where(path)}: {key_value(path, given)} is not known here; use one of {known}.")
    return found


def _cloud_types(document: YamlDocument, provider: Provider) -> tuple[NodeType, ...]:
    types: Mapping[str, Any] = document.values.get(TYPES_KEY) or {}
    head = document.values.get("head_node_type")
    if head not in types:
        path: KeyPath = ("head_node_type",)
        raise SpecError(
            f"{document.where(path)}: {key_value(path, head)} is none of {TYPES_KEY}; name one of {', '.join(types)}."
        )
    max_workers = int(document.values.get("max_workers", _DEFAULT_MAX_WORKERS))
    read = [
        _cloud_type(name, of, provider, is_head=name == head, max_workers=max_workers) for name, of in types.items()
    ]
    return tuple(sorted(read, key=lambda node: not node.is_head))


def _cloud_type(name: str, of: Mapping[str, Any], provider: Provider, *, is_head: bool, max_workers: int) -> NodeType:
    instance_type, is_spot = _instance(of.get("node_config") or {}, provider)
    most = int(of.get("max_workers", 0 if is_head else max_workers))
    return NodeType(
        name=name,
        path=(TYPES_KEY, name),
        instance_type=instance_type,
        resources={key: float(value) for key, value in (of.get("resources") or {}).items()},
        min_nodes=1 if is_head else int(of.get("min_workers", 0)),
        max_nodes=1 if is_head else most,
        is_head=is_head,
        is_spot=is_spot,
        priority=int(of.get("priority", 0)),
    )


def _instance(config: Mapping[str, Any], provider: Provider) -> tuple[str | None, bool]:
    """The cloud's name of the type, and whether it is bought on spot."""
    if provider == "aws":
        return config.get("InstanceType"), value_at(config, ("InstanceMarketOptions", "MarketType")) == "spot"
    if provider == "azure":
        parameters = config.get("azure_arm_parameters") or {}
        return parameters.get("vmSize"), parameters.get("priority") == "Spot"
    machine = config.get("machineType")
    scheduling = config.get("scheduling") or {}
    entries = scheduling if isinstance(scheduling, list) else [scheduling]  # Ray's examples write a list
    is_spot = any(entry.get("preemptible") or entry.get("provisioningModel") == "SPOT" for entry in entries)
    return (None if machine is None else str(machine).rpartition("/")[2]), is_spot


def _own_machines(document: YamlDocument) -> tuple[NodeType, ...]:
    """A head and workers that are there whether they are used or not; what they offer, Ray counts on each."""
    workers = value_at(document.values, ("provider", "worker_ips")) or []
    head = NodeType(
        name="head",
        path=("provider", "head_ip"),
        instance_type=None,
        resources={},
        min_nodes=1,
        max_nodes=1,
        is_head=True,
    )
    worker = NodeType(
        name="worker",
        path=("provider", "worker_ips"),
        instance_type=None,
        resources={},
        min_nodes=int(document.values.get("min_workers", len(workers))),
        max_nodes=len(workers),
    )
    return (head, worker)
