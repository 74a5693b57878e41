"""A search on a cluster whose size follows it: it asks for nodes, gives up those that it cannot use, and says so.

The second autoscaler is real, and so are joining, draining and ending; the machines are raylets of this one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from mlcluster.cli.node_accounts import node_lines
from tests.cli.cluster_client import ClusterClient, client_of
from tests.cli.elastic_cluster import elastic_cluster
from tests.cli.projects import ROOT, make_project, run_process, small_table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("default")]

PROJECT = """
    project: elastic
    data: {source: data/table.parquet, target: answer}
    models: [boosting, mlp]
    prices: {cluster: cluster-configs/aws-cpu.yaml}
    tune: {budget: {usd: 1.0, minutes: 0.4}}
"""
NUM_ROWS = 60_000
"""So many that a whole bracket of both families takes more than one worker in that time."""
MAX_WORKERS = 3


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterClient]:
    folder = make_project(tmp_path_factory.mktemp("elastic"), PROJECT, small_table(NUM_ROWS))
    with client_of(folder, partial(elastic_cluster, max_workers=MAX_WORKERS)) as client:
        yield client


@pytest.fixture(scope="module")
def searched(cluster: ClusterClient) -> Any:
    """What `tune` wrote, and then `cost --json`; and when the search had ended."""
    tuned = cluster.call("tune", "--json")
    ended = time.time()
    assert tuned.code in (0, 4), tuned.stderr
    return tuned, cluster.call("cost", "--json").json, ended


def test_it_asks_for_the_cheapest_nodes_within_its_minutes_and_works_on_them(searched: Any) -> None:
    tuned, cost, _ = searched
    assert f"asks for {MAX_WORKERS} x cpu-spot for 54 trials: the cheapest within the deadline, about $" in tuned.stderr
    assert f"waiting for {MAX_WORKERS} CPU, 600 s at most" in tuned.stderr
    assert f"{MAX_WORKERS} cpu at $0.3456 an hour each" in tuned.stderr
    assert len(joined(cost)) == MAX_WORKERS


def test_all_but_one_are_gone_at_the_end_of_the_search_and_the_bill_is_exact(searched: Any) -> None:
    _, cost, ended = searched
    nodes = cost["nodes"]
    gone = [node for node in joined(cost) if node["released_at"] is not None]
    assert len(gone) == MAX_WORKERS - 1
    assert all(node["released_at"] <= ended for node in gone)
    parts = [*nodes["trials"].values(), *nodes["stages"].values(), nodes["idle_usd"], nodes["lost_usd"]]
    assert round(sum(parts), 9) == round(sum(one["usd"] for one in nodes["nodes"]), 9) == round(nodes["usd"], 9)
    assert nodes["lost_usd"] < 0.05 * nodes["usd"]


def joined(cost: Any) -> list[Any]:
    """The workers whose Ray has run: before, they bear the autoscaler's own name for them, with hyphens."""
    workers = [node for node in cost["nodes"]["nodes"] if node["type"] == "cpu-spot"]
    return [node for node in workers if "-" not in node["node"]]


@pytest.fixture(scope="module")
def unbalanced(cluster: ClusterClient, searched: Any) -> Any:
    """What came of a study of which two in three workers soon have nothing to do."""
    folder = cluster.folder / "unbalanced"
    command = (sys.executable, "-m", "tests.cli.elastic_driver", str(folder))
    env = {**cluster.env, "PYTHONPATH": str(ROOT)}
    ended = run_process(ROOT, command=command, env=env, timeout=120)
    assert ended.code == 0, ended.stderr
    return json.loads((folder / "found.json").read_text())


def test_nodes_that_the_rest_of_a_study_cannot_use_go_before_its_end_and_save_what_they_would_have_cost(
    unbalanced: Any,
) -> None:
    given_up = unbalanced["nodes"]["given_up"]
    assert len(given_up["nodes"]) == 2
    for node in given_up["nodes"]:
        assert node["reason"].startswith("no new trial will start, and what goes on can use 1 of ")
        assert node["usd"] == pytest.approx(node["seconds"] * 0.36 / 3600)
        # What goes on takes 10 s; a worker takes a moment to end, and its node to be idle.
        assert 4 < node["seconds"] < 10
    assert max(unbalanced["units"].values()) == 3


def test_the_bill_is_exact_and_the_ledger_counts_no_node_that_was_given_up(unbalanced: Any) -> None:
    nodes = unbalanced["nodes"]
    parts = [*nodes["trials"].values(), *nodes["stages"].values(), nodes["idle_usd"], nodes["lost_usd"]]
    assert round(sum(parts), 9) == round(sum(one["usd"] for one in nodes["nodes"]), 9) == round(nodes["usd"], 9)
    assert nodes["lost_usd"] == 0
    # At 1e-4 a node and second; the plan's price counts from the first second to the first node that went.
    all_to_the_end = 3e-4 * unbalanced["seconds"]
    assert unbalanced["usd"] == pytest.approx(all_to_the_end - nodes["given_up"]["usd"], abs=2 * 2e-4)


def test_cost_tells_what_was_saved_in_a_line(unbalanced: Any) -> None:
    lines = list(node_lines(unbalanced["nodes"], cap_usd=1.0))
    assert any(line.startswith("saved    2 nodes given up before the search ended: ") for line in lines)
