"""Which machines a cluster has now, and which are on their way."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import ray
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray._private.state import available_resources_per_node
from ray.experimental.internal_kv import _internal_kv_get

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_LEAVING_SECONDS = 1.0
_FIRST_WORD_SECONDS = 20.0
"""After this, an autoscaler that has said nothing yet is not waited for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Members:
    """What has joined a cluster, and what is to."""

    num_cpus: int
    num_gpus: int
    """Whole ones that are free: what is served, or another job, may hold some."""
    missing: tuple[str, ...] | None
    """Machines that the autoscaler has begun to set up and that have not joined; None while it has not said."""


def members() -> Members:
    """Of the cluster that this process is connected to."""
    free = list(available_resources_per_node().values())
    num_cpus, num_gpus = (sum(int(node.get(name, 0)) for node in free) for name in ("CPU", "GPU"))
    return Members(num_cpus=num_cpus, num_gpus=num_gpus, missing=_missing())


def settled_members(*, timeout_seconds: float, say: Callable[[str], None]) -> Members:
    """Once all machines have joined that are being set up: `ray up` returns before the first worker has.

    What is still on its way after `timeout_seconds` is left out, which `say` is told. Without any CPU, whatever asks
    for one makes an autoscaler start a machine, if it has one to start.
    """
    started, is_told = time.monotonic(), False
    while True:
        found = members()
        waited = time.monotonic() - started
        is_silent = found.missing is None and found.num_cpus == 0 and waited < _FIRST_WORD_SECONDS
        if not (found.missing or is_silent):
            return found
        names = ", ".join(found.missing or ()) or "the first worker"
        if waited > timeout_seconds:
            log.warning("missing=%s after %.0f s", names, waited)
            say(f"without {names}, not there after {waited:.0f} s")
            return found
        if not is_told:
            is_told = True
            say(f"waiting for {names} to join, {timeout_seconds:.0f} s at most")
        time.sleep(_POLL_SECONDS)


class LeavingNodes:
    """Machines that are to go soon and take on nothing new: Ray was told (`ray drain-node`), as by a spot notice."""

    def __init__(self) -> None:
        self._asked_at = -math.inf
        self._node_ids: frozenset[str] = frozenset()
        self._ever: set[str] = set()

    def has(self, node_id: str) -> bool:
        """Whether the machine is one of them; asked for once a second at most."""
        if time.monotonic() - self._asked_at > _LEAVING_SECONDS:
            self._asked_at = time.monotonic()
            self._node_ids = frozenset(ray._private.worker.global_worker.gcs_client.get_draining_nodes())
            self._ever |= self._node_ids
        return node_id in self._node_ids

    def had(self, node_id: str) -> bool:
        """Whether it was one of them before it went."""
        return self.has(node_id) or node_id in self._ever


def _missing() -> tuple[str, ...] | None:
    """By the first autoscaler's last report, which it renews every five seconds; the second one writes none."""
    status = _internal_kv_get(DEBUG_AUTOSCALING_STATUS)
    report = json.loads(status).get("autoscaler_report") if status else None
    if report is None:
        return None
    launching = [f"{number} x {kind}" for kind, number in report["pending_launches"].items()]
    failed = {address for address, _ in report["failed_nodes"]}
    # Where Ray was started by hand, the report names nodes by their ids.
    joined = {node[key] for node in ray.nodes() if node["Alive"] for key in ("NodeManagerAddress", "NodeID")}
    known = set(report["node_type_mapping"] or ())
    return (*sorted(known - failed - joined), *launching)
