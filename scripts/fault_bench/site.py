"""A small cluster on this machine with an endpoint, and what can be done to it."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from mlcluster.registry import Bundle
from mlcluster.serve import Endpoint, ServePlan

NUM_NODES = 4
"""One CPU each, and a replica reserves one: no two share a node."""
_NODE = {"num_cpus": 1, "node_ip_address": "127.0.0.1"}


class Site:
    """Ray on loopback, of four nodes of one CPU each."""

    def __init__(self, bundle: Bundle) -> None:
        from ray.cluster_utils import Cluster

        self._bundle = bundle
        self._folder = tempfile.mkdtemp(prefix="mlc-")
        # `Cluster` writes an address there, whatever `temp_dir` is; a machine that never ran Ray has no such folder.
        (Path(tempfile.gettempdir()) / "ray").mkdir(exist_ok=True)
        head = {**_NODE, "include_dashboard": False, "temp_dir": self._folder}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        workers = [self._cluster.add_node(**_NODE) for _ in range(NUM_NODES - 1)]
        self._nodes = [self._cluster.head_node, *workers]
        import ray

        ray.init(address=self._cluster.address, log_to_driver=False, logging_level="ERROR", _temp_dir=self._folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._version = 0
        self.endpoint: Endpoint | None = None

    def deploy(
        self,
        replica_type: type[Any],
        *,
        replicas: int,
        least: int | None = None,
        at_first: int | None = None,
        **settings: Any,
    ) -> None:
        """A new version, with this many replicas; returns when they, or as many as `at_first` says, run."""
        from mlcluster.serve.ray_deploy import deploy

        self._version += 1
        bundle = replace(self._bundle, card=replace(self._bundle.card, version=str(self._version)))
        plan = ServePlan(
            name="faults",
            bundle_files=bundle.files(),
            min_replicas=replicas if least is None else least,
            max_replicas=replicas,
            cpus_per_replica=1,
            port=self._port,
            **settings,
        )
        self.endpoint = deploy(plan, replica_type=replica_type, timeout_seconds=90)
        wait_until(lambda: self.num_running() == (replicas if at_first is None else at_first), 60)

    def num_running(self) -> int:
        from ray import serve

        assert self.endpoint is not None
        application = serve.status().applications[self.endpoint.app_name]
        return int(application.deployments["model"].replica_states.get("RUNNING", 0))

    def worker(self, title: str) -> psutil.Process:
        """The process that Ray has given a title which begins so."""
        return _titled(title, self._raylets())

    def replica(self) -> psutil.Process:
        return self.worker(self._replica_title)

    @property
    def _replica_title(self) -> str:
        assert self.endpoint is not None
        return f"ray::ServeReplica:{self.endpoint.app_name}:"

    def keeper(self) -> psutil.Process:
        """Of the front door."""
        raylet = self._raylets()[0].pid
        folder = next(Path(tempfile.gettempdir()).glob(f"mlc-front-{raylet}-*"))
        return psutil.Process(int((folder / "keeper.pid").read_text()))

    def kill_a_node(self) -> None:
        """A worker node that has a replica, with all that runs on it; another one comes in its place."""
        _, *workers = self._raylets()
        above = _titled(self._replica_title, workers).parents()
        busy = next(raylet for raylet in workers if raylet in above)
        for process in [*busy.children(recursive=True), busy]:
            process.kill()
        self._nodes = [node for node in self._nodes if _raylet_pid(node) != busy.pid]
        self._nodes.append(self._cluster.add_node(**_NODE))

    def _raylets(self) -> list[psutil.Process]:
        """The head's first."""
        return [psutil.Process(_raylet_pid(node)) for node in self._nodes]

    def close(self) -> None:
        import ray

        ray.shutdown()
        self._cluster.shutdown()


def wait_until(is_so: Callable[[], bool], seconds: float) -> float:
    """Seconds that it took; raises where it did not come to pass."""
    started = time.monotonic()
    while not is_so():
        if time.monotonic() - started > seconds:
            raise AssertionError(f"not within {seconds} s")
        time.sleep(0.1)
    return time.monotonic() - started


def _titled(title: str, raylets: list[psutil.Process]) -> psutil.Process:
    for raylet in raylets:
        for process in raylet.children(recursive=True):
            if " ".join(process.cmdline()).startswith(title):
                return process
    raise AssertionError(f"no process is titled {title}")


def _raylet_pid(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)
