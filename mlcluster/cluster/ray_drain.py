"""Tells Ray that a machine is taken away: it takes on nothing new, and what is on it may go elsewhere in time."""

from __future__ import annotations

import time

from ray._private import services
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.core.generated.autoscaler_pb2 import DrainNodeReason
from ray.core.generated.gcs_pb2 import GcsNodeInfo
from ray.util import get_node_ip_address

from mlcluster.errors import ClusterError


def drain_machine(*, message: str, until: float | None, address: str | None, node_ip: str | None = None) -> None:
    """Of the node on this machine, or on `node_ip`; `until` is when it goes, None where nobody knows.

    `address` is the GCS's, by default that of the Ray on this machine.

    Raises:
        ClusterError: there is no such node, or Ray refuses.
    """
    client = GcsClient(address=services.canonicalize_bootstrap_address_or_die(address))
    ip = node_ip or get_node_ip_address()
    nodes = client.get_all_node_info().values()
    alive = [node for node in nodes if node.state == GcsNodeInfo.GcsNodeState.ALIVE and not node.is_head_node]
    mine = [node for node in alive if node.node_manager_address == ip]
    if not mine:
        raise ClusterError(f"node = {ip} is no worker of the cluster; start Ray on it first, as `ray start`.")
    reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    # 0: it ends once what it does is done.
    deadline_ms = 0 if until is None else int(1000 * max(until, time.time() + 1))
    for node in mine:
        is_accepted, why_not = client.drain_node(node.node_id.hex(), reason, message, deadline_ms)
        if not is_accepted:
            raise ClusterError(f"node = {ip} cannot be drained ({why_not}); see `ray status`.")
