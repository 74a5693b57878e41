"""The machines of the cluster that this process is connected to, out of Ray's own record of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import ray
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray.core.generated.gcs_pb2 import GcsNodeInfo
from ray.experimental.internal_kv import _internal_kv_get

from mlcluster.cluster.node_pricing import NodeFacts

_TYPE_LABEL, _MARKET_LABEL = "ray.io/node-group", "ray.io/market-type"
_MARKETS = {"spot": True, "on-demand": False}


def node_facts() -> list[NodeFacts]:
    """Those that are there, and those that were: Ray remembers the last thousand that went."""
    return list(_facts())


def _facts() -> Iterator[NodeFacts]:
    types = _types_by_address()
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


def _types_by_address() -> dict[str, str]:
    """By the first autoscaler's last report; the second one writes none."""
    status = _internal_kv_get(DEBUG_AUTOSCALING_STATUS)
    report = json.loads(status).get("autoscaler_report") if status else None
    return dict((report or {}).get("node_type_mapping") or {})
