"""The machines of the cluster that this process is connected to, out of Ray's own record of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import ray
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.core.generated.gcs_pb2 import GcsNodeInfo
from ray.experimental.internal_kv import _internal_kv_get

from mlcluster.cluster.node_pricing import NodeFacts
from mlcluster.cluster.starting_nodes import PendingInstances, StartingNodes

_TYPE_LABEL, _MARKET_LABEL = "ray.io/node-group", "ray.io/market-type"
_MARKETS = {"spot": True, "on-demand": False}


class NodeRecord:
    """Looks at the cluster again and again, so that machines are known before they have joined."""

    def __init__(self) -> None:
        self._starting = StartingNodes()
        self._pending = PendingInstances()

    def look(self) -> list[NodeFacts]:
        """Those that are there, are being started, or were there: Ray remembers the last thousand that went."""
        if is_autoscaler_v2():
            nodes = list(_facts({}))
            return [*nodes, *self._pending.look(_pending_instances(), nodes, now=time.time())]
        types, failed = _autoscaler_nodes()
        nodes = list(_facts(types))
        # Where Ray was started by hand, the report names nodes by their ids: none of them is being started.
        ids = {node.node_id for node in nodes}
        coming = {address: name for address, name in types.items() if address not in failed | ids}
        return [*nodes, *self._starting.look(coming, nodes, now=time.time())]


def _facts(types: Mapping[str, str]) -> Iterator[NodeFacts]:
    # Not `ray.nodes()`, which leaves out when a node began and ended.
    for info in ray._private.worker.global_worker.gcs_client.get_all_node_info().values():
        is_alive = info.state == GcsNodeInfo.GcsNodeState.ALIVE
        yield NodeFacts(
            node_id=info.node_id.hex(),
            address=info.node_manager_address,
            node_type=_type_of(info) or types.get(info.node_manager_address),
            is_spot=_MARKETS.get(info.labels.get(_MARKET_LABEL, "")),
            is_head=info.is_head_node,
            resources=dict(info.resources_total),
            launched_at=info.start_time_ms / 1000,
            released_at=None if is_alive else info.end_time_ms / 1000,
        )


def _type_of(info: Any) -> str | None:
    """Said by the second autoscaler and by KubeRay."""
    return info.node_type_name or info.labels.get(_TYPE_LABEL) or None


def _pending_instances() -> dict[str, str]:
    """Types by instance, of those that the second autoscaler has been given and whose Ray has not joined."""
    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    return {node.instance_id: node.ray_node_type_name for node in status.pending_nodes}


def _autoscaler_nodes() -> tuple[dict[str, str], frozenset[str]]:
    """Types by address, and addresses that failed, in the first autoscaler's last report; the second writes none."""
    status = _internal_kv_get(DEBUG_AUTOSCALING_STATUS)
    report = (json.loads(status).get("autoscaler_report") if status else None) or {}
    failed = frozenset(address for address, _ in report.get("failed_nodes") or ())
    return dict(report.get("node_type_mapping") or {}), failed
