"""`cluster-configs/local.yaml` on machines of one box: its documented edits, `ray up`, a client, `ray down`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.cli.projects import Outcome, environment, free_ports, run_process
from tests.cluster.machines import ROOT, Machine, Machines, ssh_words

FILE = "local.yaml"
TUNNEL = ("-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3")
"""As in docs/clusters-on-prem.md: a tunnel that ends when the head is gone, and with it whoever waits at it."""
# The search ends once two hundredths of a cent would bring less than a point: after some seconds.
SEARCH = ("--set", "models=[linear, tree]", "--set", "tune.worth.usd_per_point=0.0002")
SETTINGS = (*SEARCH, "--set", "serve.replicas=1..1")
RUN = ("--name", "nightly")
_RAYS = re.compile(r"ray::|/ray/|raylet|gcs_server|ray start")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job that was submitted and has ended."""

    submitted: Outcome
    details: Any
    log: str

    @property
    def json(self) -> Any:
        """The last line of everything that the job has written."""
        return json.loads(self.log.rstrip("\n").splitlines()[-1])


@dataclass
class LocalCluster:
    """A head and its workers; the client is a person outside of it, with a token, a key and two tunnels."""

    machines: Machines
    edits: dict[str, str] = field(default_factory=dict)
    """More of the file's documented edits: text -> text."""
    num_workers: int = 2
    dashboard: int = 0
    endpoint: int = 0
    """Ports of this box that lead to the head's dashboard and to the model that it serves."""

    @property
    def head(self) -> Machine:
        return self.machines[0]

    @property
    def workers(self) -> list[Machine]:
        return self.machines.machines[1 : 1 + self.num_workers]

    @property
    def stranger(self) -> Machine:
        """A machine on the same network that is none of the cluster's."""
        return self.machines[1 + self.num_workers]

    @property
    def home(self) -> Path:
        return self.machines.client_home

    @property
    def token(self) -> str:
        return (self.home / ".ray" / "auth_token").read_text()

    @property
    def client(self) -> dict[str, str]:
        """The client's environment, as docs/clusters-on-prem.md has it."""
        programs = self.machines.folder / "python" / "bin"
        return {
            "HOME": str(self.home),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "RAY_TMPDIR": str(self.home),
            "TMPDIR": str(self.home),
            "RAY_UP_enable_autoscaler_v2": "0",
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{self.dashboard}",
        }

    def write_file(self) -> None:
        """The cluster file with its documented edits."""
        workers = ", ".join(machine.address for machine in self.workers)
        edits = {
            "192.0.2.10": self.head.address,
            "192.0.2.11, 192.0.2.12": workers,
            "~/.ssh/mlcluster_cluster": str(self.machines.key),
            "max_workers: 2": f"max_workers: {len(self.workers)}",
            "ray start --block": "ray start --num-cpus=1 --block",
            **self.edits,
        }
        text = (ROOT / "cluster-configs" / FILE).read_text()
        for before, after in edits.items():
            assert text.count(before) >= 1, before
            text = text.replace(before, after)
        (self.home / FILE).write_text(text)

    def up(self) -> Outcome:
        """`ray up`; it returns once the head is there."""
        return self.call("ray", "up", "-y", "--no-config-cache", FILE)

    def down(self) -> Outcome:
        return self.call("ray", "down", "-y", FILE)

    def call(self, *command: str, folder: Path | None = None, **more: str) -> Outcome:
        """A command of the client, in its home; `more` are variables."""
        return run_process(folder or self.home, command=command, env={**self.client, **more}, timeout=240)

    def on_head(self, command: str) -> Outcome:
        """What the docs tell people to run on the head."""
        return self.call("ray", "exec", FILE, f". ~/.ray/env && {command}")

    def get(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = httpx.get(f"http://127.0.0.1:{self.dashboard}{path}", headers=headers, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def ended(self, submitted: Outcome) -> Job:
        match = re.search(r"raysubmit_\w+", submitted.stdout)
        assert match is not None, submitted.stdout + submitted.stderr
        details = self.get(f"/api/jobs/{match[0]}")
        return Job(submitted=submitted, details=details, log=self.get(f"/api/jobs/{match[0]}/logs")["logs"])

    @contextlib.contextmanager
    def tunnels(self) -> Iterator[None]:
        """From the client to the dashboard and to the endpoint, both of which listen on the head's loopback alone."""
        self.dashboard, self.endpoint = free_ports(2)
        forwards = [f"-L{port}:127.0.0.1:{to}" for port, to in ((self.dashboard, 8265), (self.endpoint, 8000))]
        command = ssh_words(self.machines, self.head, "-N", *TUNNEL, *forwards)
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment()) as process:
            try:
                self._wait_for_dashboard()
                yield
            finally:
                process.terminate()

    def _wait_for_dashboard(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                self.get("/api/jobs/")
            except httpx.HTTPError as error:
                assert time.monotonic() < deadline, error
                time.sleep(0.3)
            else:
                return

    def num_alive(self) -> int:
        """Machines that are in the cluster now."""
        nodes = self.get("/api/v0/nodes?limit=1000")["data"]["result"]["result"]
        return sum(node["state"] == "ALIVE" for node in nodes)

    def rays(self) -> list[str]:
        """Ray's processes on all machines."""
        commands = [command for machine in self.machines.machines for command in machine.processes().values()]
        return [command.strip() for command in commands if _RAYS.search(command)]

    def wait_until(self, is_so: Any, *, seconds: float) -> float:
        """Waits until `is_so()`; gives the seconds that it took."""
        started = time.monotonic()
        while not is_so():
            assert time.monotonic() - started < seconds, f"not so after {seconds} s; of Ray there are {self.rays()}"
            time.sleep(0.25)
        return time.monotonic() - started


def last_lines(outcome: Outcome, count: int = 30) -> str:
    """For the message of an assertion."""
    lines: Sequence[str] = (outcome.stdout + outcome.stderr).splitlines()
    return "\n".join(lines[-count:])
