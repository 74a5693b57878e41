"""From a Ray cluster file to a `ClusterPlan`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlcluster.cluster.documents import KeyPath
from mlcluster.cluster.findings import key_value, list_at, mapping_at, text_at, value_at, whole_at
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
_INSTANCE: dict[Provider, KeyPath] = {
    "aws": ("InstanceType",),
    "gcp": ("machineType",),
    "azure": ("azure_arm_parameters", "vmSize"),
}
"""Where a node's configuration names its type."""


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
        region=text_at(document, ("provider", "location" if provider == "azure" else "region")),
        node_types=node_types,
        max_workers=whole_at(document, ("max_workers",), _DEFAULT_MAX_WORKERS),
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
    types = mapping_at(document.values, (TYPES_KEY,))
    head = document.values.get("head_node_type")
    if head not in types:
        path: KeyPath = ("head_node_type",)
        raise SpecError(
            f"{document.where(path)}: {key_value(path, head)} is none of {TYPES_KEY}; name one of {', '.join(types)}."
        )
    read = [_cloud_type(document, name, provider, is_head=name == head) for name in types]
    return tuple(sorted(read, key=lambda node: not node.is_head))


def _cloud_type(document: YamlDocument, name: str, provider: Provider, *, is_head: bool) -> NodeType:
    path: KeyPath = (TYPES_KEY, name)
    config: KeyPath = (*path, "node_config")
    machine = text_at(document, (*config, *_INSTANCE[provider]))
    most = 0 if is_head else whole_at(document, ("max_workers",), _DEFAULT_MAX_WORKERS)
    return NodeType(
        name=str(name),
        path=path,
        instance_type=None if machine is None else machine.rpartition("/")[2],
        resources={key: float(value) for key, value in mapping_at(document.values, (*path, "resources")).items()},
        min_nodes=1 if is_head else whole_at(document, (*path, "min_workers")),
        max_nodes=1 if is_head else whole_at(document, (*path, "max_workers"), most),
        is_head=is_head,
        is_spot=_is_spot(mapping_at(document.values, config), provider),
        priority=int(value_at(document.values, (*path, "priority")) or 0),
    )


def _is_spot(config: Mapping[str, Any], provider: Provider) -> bool:
    if provider == "aws":
        return bool(value_at(config, ("InstanceMarketOptions", "MarketType")) == "spot")
    if provider == "azure":
        return bool(value_at(config, ("azure_arm_parameters", "priority")) == "Spot")
    # Ray's examples for Google Cloud write a list here, where the API has a mapping.
    entries = list_at(config, ("scheduling",)) or [mapping_at(config, ("scheduling",))]
    return any(
        value_at(one, ("preemptible",)) is True or value_at(one, ("provisioningModel",)) == "SPOT" for one in entries
    )


def _own_machines(document: YamlDocument) -> tuple[NodeType, ...]:
    """A head and workers that are there whether they are used or not; what they offer, Ray counts on each."""
    workers = list_at(document.values, ("provider", "worker_ips"))
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
        min_nodes=whole_at(document, ("min_workers",), len(workers)),
        max_nodes=len(workers),
    )
    return (head, worker)
