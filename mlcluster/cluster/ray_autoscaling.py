"""Asks Ray's second autoscaler for nodes, and lets go of those that are idle.

Measured with Ray 2.60: a node that is drained as idle ends its Ray within a second, and the second autoscaler then
terminates the machine within its next round (five seconds). The first one keeps the machine, and would start Ray on it
again: there, idle nodes go by `idle_timeout_minutes` alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence

import ray
from ray._private.state import total_resources_per_node
from ray.autoscaler.sdk import request_resources
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.core.generated.autoscaler_pb2 import DrainNodeReason

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5


def can_resize(node_types: Collection[str]) -> bool:
    """Whether the connected cluster was brought up from a file with these types, under the second autoscaler.

    A head that was started by hand has no type, and nothing that could start nodes.
    """
    nodes = ray._private.worker.global_worker.gcs_client.get_all_node_info().values()
    heads = [node for node in nodes if node.is_head_node]
    return is_autoscaler_v2() and any(head.node_type_name in node_types for head in heads)


def wait_for_nodes(
    bundles: Sequence[Mapping[str, float]], *, timeout_seconds: float, say: Callable[[str], None]
) -> None:
    """Asks for nodes that hold all of these at once, and waits until they are there, or the time is over.

    What is asked for is then taken back: Ray would keep as much until somebody does, also of a driver that has died.
    Nodes that have joined stay while they are in use, and for `idle_timeout_minutes` after it.
    """
    request_resources(bundles=[dict(bundle) for bundle in bundles])
    try:
        started, is_told = time.monotonic(), False
        while (missing := _missing(bundles)) and time.monotonic() - started < timeout_seconds:
            if not is_told:
                is_told = True
                say(f"waiting for {missing}, {timeout_seconds:.0f} s at most")
            time.sleep(_POLL_SECONDS)
    finally:
        request_resources(bundles=[])
    if missing:
        log.warning("missing=%s after %.0f s", missing, timeout_seconds)
        say(f"without {missing}, not there after {timeout_seconds:.0f} s")


def _missing(bundles: Sequence[Mapping[str, float]]) -> str:
    """What the cluster has less of than was asked for, in words; empty where it has all."""
    nodes = total_resources_per_node().values()
    there = {name: sum(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU")}
    asked = {name: sum(bundle.get(name, 0.0) for bundle in bundles) for name in there}
    return " and ".join(f"{asked[name] - there[name]:g} {name}" for name in there if asked[name] > there[name])


def let_go(node_id: str, reason: str) -> bool:
    """Drains a node that is idle, for good; False, and nothing done, where something is in use of it."""
    client = ray._private.worker.global_worker.gcs_client
    idle = DrainNodeReason.Value("DRAIN_NODE_REASON_IDLE_TERMINATION")
    is_accepted, why_not = client.drain_node(node_id, idle, reason, 0)
    if not is_accepted:
        log.debug("not drained node_id=%s: %s", node_id, why_not)
    return bool(is_accepted)
