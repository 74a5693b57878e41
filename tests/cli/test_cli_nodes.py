"""A run on a cluster of two nodes, a head and a spot worker: what its nodes cost, and whose that was.

The nodes are two raylets of one machine that say which node type they are, as machines of a cluster do.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray.util import get_node_ip_address

from mlcluster.cost.node_log import LOOK_SECONDS
from tests.cli.cluster_client import ClusterClient, client_of, end_processes
from tests.cli.projects import MLCLUSTER, environment, free_ports, make_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("default")]

PROJECT = """
    project: nodes
    data: {source: data/table.parquet, target: answer}
    models: [linear, tree]
    prices: {cluster: cluster-configs/aws-cpu.yaml}
    tune: {budget: {usd: 1.0, minutes: 0.6}}
"""
HEAD_USD_PER_HOUR, WORKER_USD_PER_HOUR = 0.0864, 0.3456


@contextlib.contextmanager
def ray_nodes(temp_dir: str, token: Path) -> Iterator[str]:
    """The address of a head of type `head` with a spot worker; both are ended at the end."""
    port, client_port, *agent_ports = free_ports(4)
    address = f"{get_node_ip_address()}:{port}"
    plain = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
    head = ["--head", f"--port={port}", f"--ray-client-server-port={client_port}", f"--temp-dir={temp_dir}"]
    head += ["--include-dashboard=false", "--num-cpus=0", "--labels=ray.io/node-group=head"]
    worker = [f"--address={address}", "--num-cpus=1", "--labels=ray.io/node-group=cpu-spot,ray.io/market-type=spot"]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for words, agent_port in zip((head, worker), agent_ports, strict=True):
            log = Path(temp_dir) / f"{len(started)}.log"
            command = [*start, *words, f"--dashboard-agent-listen-port={agent_port}"]
            with log.open("w") as output:
                started.append(
                    subprocess.Popen(command, env=environment(plain), stdout=output, stderr=subprocess.STDOUT)
                )
            wait_for(log, started[-1])
        yield address
    finally:
        everything = [psutil.Process(one.pid) for one in started if one.poll() is None]
        end_processes([*everything, *(child for one in everything for child in one.children(recursive=True))])
        for one in started:
            one.wait()


def wait_for(log: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while "Ray runtime started" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterClient]:
    folder = make_project(tmp_path_factory.mktemp("nodes"), PROJECT)
    with client_of(folder, ray_nodes) as client:
        yield client


@pytest.fixture(scope="module")
def spent(cluster: ClusterClient) -> Any:
    """What `tune` wrote, and `cost --json` after it."""
    tuned = cluster.call("tune", "--json")
    assert tuned.code in (0, 4), tuned.stderr  # a slow machine may have had time for one family only
    return tuned, cluster.call("cost", "--json").json


def test_the_plan_counts_the_head_and_says_so(spent: Any) -> None:
    tuned, _ = spent
    line = f"the cluster's nodes beyond these workers, the head included: ${HEAD_USD_PER_HOUR:.4g} an hour"
    assert line in tuned.stderr
    assert "is not in these dollars" not in tuned.stderr


def test_each_node_has_its_type_market_price_and_seconds(spent: Any) -> None:
    head, worker = spent[1]["nodes"]["nodes"]
    assert (head["type"], worker["type"], worker["market"]) == ("head", "cpu-spot", "spot")
    assert head["usd_per_hour"] == HEAD_USD_PER_HOUR
    assert worker["usd_per_hour"] == WORKER_USD_PER_HOUR
    assert head["launched_at"] < worker["launched_at"]
    for one in (head, worker):
        assert one["released_at"] is None
        assert one["usd"] == pytest.approx(one["usd_per_hour"] * one["seconds"] / 3600, abs=1e-8)


def test_trials_stages_idle_and_lost_are_the_nodes_bill(spent: Any) -> None:
    cost = spent[1]
    nodes = cost["nodes"]
    parts = [*nodes["trials"].values(), *nodes["stages"].values(), nodes["idle_usd"], nodes["lost_usd"]]
    assert round(sum(parts), 9) == round(sum(one["usd"] for one in nodes["nodes"]), 9) == round(nodes["usd"], 9)
    # The last one may have been out when the search ended: then it is in what was lost.
    assert len({trial["id"] for trial in cost["trials"]} - nodes["trials"].keys()) <= 1
    assert nodes["stages"].keys() == {"data"}
    assert nodes["lost_usd"] < 0.01 * nodes["usd"]
    assert all(usd > 0 for usd in nodes["trials"].values())


def test_the_ledger_and_the_nodes_agree_on_what_trials_and_the_run_cost(spent: Any) -> None:
    cost = spent[1]
    trials_usd = sum(trial["usd"] for trial in cost["trials"])
    # The ledger counts a trial from when it is decided on, the nodes from when a worker is handed it: in trainings of
    # some milliseconds much of the time is between the two.
    assert 0.25 * trials_usd < sum(cost["nodes"]["trials"].values()) <= trials_usd
    # The nodes are there from the run's first look to its last, the ledger's stages within that.
    assert cost["spent_usd"] <= cost["nodes"]["usd"] <= cost["spent_usd"] + 20 * (0.0864 + 0.3456) / 3600
    assert cost["nodes"]["usd"] <= cost["cap_usd"]


def test_the_table_shows_it_and_whether_the_cap_held(cluster: ClusterClient, spent: Any) -> None:
    text = cluster.call("cost").stdout
    worker = next(line for line in text.splitlines() if " cpu-spot " in line)
    assert " spot " in worker
    assert f"{WORKER_USD_PER_HOUR:.4f}" in worker
    assert "price    m6a.2xlarge of " in text
    assert text.splitlines()[-1] == "the cap of $1 held, all of this counted"


def test_after_a_driver_that_was_killed_the_next_goes_on_in_the_same_bill(cluster: ClusterClient) -> None:
    words = (*MLCLUSTER, "tune", "--fresh", "--seed", "7")
    known = set((cluster.folder / "home").glob("nodes/runs/*"))
    log = cluster.folder / "killed.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            words, cwd=cluster.folder, env=environment(cluster.env), stdout=output, stderr=subprocess.STDOUT
        )
    deadline = time.monotonic() + 120
    killed: Path | None = None
    while killed is None and time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        for path in set((cluster.folder / "home").glob("nodes/runs/*/nodes-1.jsonl")):
            operations = [json.loads(line)["op"] for line in path.read_bytes().split(b"\n")[:-1]]
            if path.parent not in known and operations.count("begin") > operations.count("end") > 0:
                killed = path
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert killed is not None
    again = cluster.call("tune", "--seed", "7")
    assert again.code in (0, 4), again.stderr
    nodes = cluster.call("cost", "--json").json["nodes"]
    lines = [json.loads(line) for line in killed.read_text().splitlines()]
    first, second = (number for number, line in enumerate(lines) if line["op"] == "open")
    assert [line["op"] for line in lines[first:second]].count("close") == 0
    between = lines[second]["at"] - lines[second - 1]["at"]
    assert between > 1
    # Nobody drove the run between the two, so that time of the nodes is not its own, but for the last look's interval.
    for one in nodes["nodes"]:
        driven = lines[-1]["at"] - lines[0]["at"] - between + min(between, LOOK_SECONDS)
        assert one["seconds"] == pytest.approx(driven, abs=0.01)
    parts = [*nodes["trials"].values(), *nodes["stages"].values(), nodes["idle_usd"], nodes["lost_usd"]]
    assert round(sum(parts), 9) == round(nodes["usd"], 9)
