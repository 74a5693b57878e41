"""The running cluster, to a stranger: what listens where, what it answers without the token, and where the token is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.cluster.local_cluster import Job, LocalCluster
from tests.cluster.machines import ROOT, Machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("default")]

Socket = tuple[str, str, str]
"""Process, what it listens on, and its port where that is always the same one."""
FIXED_PORTS = {"22", "6379", "8000", "8265", "10001", "44217", "52365"}
PROCESSES = {
    "gcs_server": "gcs_server",
    "raylet/raylet": "raylet",
    "dashboard/dashboard.py": "dashboard",
    "_private/monitor.py": "autoscaler",
    "ray.util.client.server": "client server",
    "sshd:": "sshd",
    "ray::DashboardAgent": "DashboardAgent",
    "ray::RuntimeEnvAgent": "RuntimeEnvAgent",
    "ray::ServeController": "ServeController",
    "ray::ServeReplica": "ServeReplica",
    "ray::ProxyActor": "ProxyActor",
    "haproxy": "front door",
    "front/keeper.py": "front door",
    "ray::Front": "front door",
    "ray::": "worker",
}
# Each socket that listens: where, and the command of its process.
LISTENING = r"""ss -lntpH | while read -r _ _ _ where _ who; do
  pid=$(echo "$who" | sed 's/.*pid=\([0-9]*\).*/\1/'); echo "$where $(tr '\0' ' ' < /proc/$pid/cmdline)"; done"""


def sockets_of(machine: Machine) -> set[Socket]:
    found = set()
    for line in machine.run("bash", "-c", LISTENING).stdout.splitlines():
        where, _, command = line.partition(" ")
        address, _, port = where.rpartition(":")
        address = address.strip("[]").removeprefix("::ffff:")
        on = {"127.0.0.1": "loopback", "::1": "loopback", machine.address: "node"}.get(address, "every")
        process = next(name for part, name in PROCESSES.items() if part in command)
        found.add((process, on, port if port in FIXED_PORTS else "any"))
    return found


def documented(machines: str) -> dict[Socket, bool]:
    """What the table has for these machines -> whether it is always there: a worker process comes and goes."""
    text = (ROOT / "docs" / "security.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {
        (process, on, port): process != "worker"
        for process, where, on, port, *_ in rows[2:]
        if where in ("all", machines)
    }


def test_what_listens_is_what_the_docs_say(cluster: LocalCluster, pipeline: Job) -> None:
    found = {machine.name: sockets_of(machine) for machine in (cluster.head, *cluster.workers)}
    on_workers = set.union(*(found[machine.name] for machine in cluster.workers))
    for there, table in ((found[cluster.head.name], documented("head")), (on_workers, documented("workers"))):
        assert there <= set(table)
        assert {socket for socket, is_always in table.items() if is_always} <= there


@pytest.mark.parametrize("headers", [{}, {"Authorization": f"Bearer {'0' * 64}"}], ids=["no token", "a wrong token"])
def test_the_dashboard_answers_no_stranger(cluster: LocalCluster, pipeline: Job, headers: dict[str, str]) -> None:
    url = f"http://127.0.0.1:{cluster.dashboard}"
    before = len(cluster.get("/api/jobs/"))
    assert httpx.get(f"{url}/api/jobs/", headers=headers).status_code in (401, 403)
    assert httpx.post(f"{url}/api/jobs/", json={"entrypoint": "id"}, headers=headers).status_code in (401, 403)
    assert httpx.get(f"{url}/nodes?view=summary", headers=headers).status_code in (401, 403)
    assert len(cluster.get("/api/jobs/")) == before


def http_ports(machine: Machine) -> Iterator[tuple[str, str]]:
    """What the agents of a machine do for whoever reaches them over the cluster's network."""
    listening = machine.run("bash", "-c", LISTENING).stdout
    (port,) = re.findall(rf"{re.escape(machine.address)}:(\d+) ray::RuntimeEnvAgent", listening)
    yield f"http://{machine.address}:{port}", "/get_or_create_runtime_env"
    yield f"http://{machine.address}:52365", "/api/job_agent/jobs/"


def test_the_agents_do_nothing_for_a_stranger_on_the_network(cluster: LocalCluster, pipeline: Job) -> None:
    for machine in (cluster.head, *cluster.workers):
        for url, path in http_ports(machine):
            assert httpx.post(url + path, content=b"{}").status_code == 401


STRANGE = {
    "join": "ray start --address={head}:6379 --disable-usage-stats",
    "join with a wrong token": "RAY_AUTH_MODE=token RAY_AUTH_TOKEN=wrong ray start --address={head}:6379",
    "connect": "RAY_AUTH_MODE=disabled python -c \"import ray; ray.init('{head}:6379')\"",
    "connect as a client": "python -c \"import ray; ray.init('ray://{head}:10001')\"",
}


def test_a_machine_without_the_token_cannot_join_or_connect(cluster: LocalCluster, pipeline: Job) -> None:
    stranger = cluster.stranger
    before = cluster.num_alive()
    commands = [command.format(head=cluster.head.address) for command in STRANGE.values()]
    with ThreadPoolExecutor(len(commands)) as pool:
        done = list(
            pool.map(
                lambda words: stranger.run("timeout", "100", "bash", "-c", words, check=False, timeout=120), commands
            )
        )
    for name, one in zip(STRANGE, done, strict=True):
        assert one.returncode not in (0, 124), f"{name}: {one.stdout}{one.stderr}"
    assert "Authentication token is missing or incorrect" in done[0].stdout + done[0].stderr
    assert cluster.num_alive() == before == 3


def test_the_token_and_the_key_are_their_owners_alone_and_stand_nowhere_else(
    cluster: LocalCluster, pipeline: Job
) -> None:
    assert (cluster.home / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    assert (cluster.head.disk / "ray_bootstrap_key.pem").stat().st_mode & 0o777 == 0o600
    for machine in (cluster.head, *cluster.workers):
        assert (machine.disk / ".ray").stat().st_mode & 0o777 == 0o700
        holders = machine.run("bash", "-c", 'grep -rlF "$(cat ~/.ray/auth_token)" ~ /tmp/ray', check=False).stdout
        assert holders.split() == [f"{machine.home}/.ray/auth_token"]
        assert (machine.disk / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
        assert not [command for command in machine.processes().values() if cluster.token in command]
