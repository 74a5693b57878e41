"""Nodes that are given up while a study goes on: emptied first, let go when Ray lets them, and written down."""

from __future__ import annotations

import pytest

from mlcluster.cost import Node, NoNodeLog
from mlcluster.tune.releases import ElasticCluster, KeepAll, Releases, WorkerAt


class Nodes(NoNodeLog):
    """Two workers of a type at $3.60 an hour, and a head."""

    def __init__(self) -> None:
        self.given_up: dict[str, str] = {}
        self.has_ended = False

    @property
    def present(self) -> tuple[Node, ...]:
        return tuple(
            Node(
                node_id=name,
                node_type="head" if name == "head" else "cpu",
                is_spot=False,
                is_head=name == "head",
                resources={"CPU": 2.0},
                usd_per_hour=3.6,
                price_source="prices.yaml",
                launched_at=0.0,
            )
            for name in ("head", "a", "b")
        )

    def give_up(self, node_id: str, *, reason: str) -> None:
        self.given_up[node_id] = reason

    def end_search(self) -> None:
        self.has_ended = True


class Cluster:
    """Lets go of nodes that are not in use."""

    def __init__(self) -> None:
        self.in_use: set[str] = set()
        self.went: list[str] = []
        self.now = 0.0

    def let_go(self, node_id: str, reason: str) -> bool:
        assert reason
        if node_id in self.in_use:
            return False
        self.went.append(node_id)
        return True

    def releases(self, nodes: Nodes, min_nodes: int = 0) -> Releases:
        elastic = ElasticCluster(let_go=self.let_go, min_nodes={"cpu": min_nodes}, start_seconds=100.0)
        return Releases(elastic, nodes, clock=lambda: self.now)


def workers(*named: str) -> list[WorkerAt]:
    """`a+` is a busy worker on node a, `a` an idle one."""
    return [WorkerAt(node_id=one.rstrip("+"), kind="cpu", is_busy=one.endswith("+")) for one in named]


def test_a_node_is_emptied_then_let_go_once_ray_says_that_it_is_idle_and_then_it_counts() -> None:
    nodes, cluster = Nodes(), Cluster()
    releases = cluster.releases(nodes)
    releases.look(workers("a+", "a+", "b+", "b"), needed=None)
    assert not releases.has("b")
    releases.look(workers("a+", "a", "b+", "b"), needed={"cpu": 2})
    assert (releases.has("a"), releases.has("b"), cluster.went) == (False, True, [])
    cluster.in_use = {"b"}
    releases.look(workers("a+", "a+"), needed={"cpu": 2})
    assert (cluster.went, nodes.given_up, releases.usd_per_second) == ([], {}, 0.0)
    cluster.in_use = set()
    releases.look(workers("a+", "a+"), needed={"cpu": 2})
    releases.look(workers("a+", "a+"), needed={"cpu": 2})
    assert cluster.went == ["b"]
    assert nodes.given_up == {"b": "no new trial will start, and what goes on can use 2 of 4 workers"}
    assert releases.usd_per_second == pytest.approx(0.001)


def test_while_the_study_may_grow_a_node_goes_once_it_was_idle_for_as_long_as_one_takes_to_start() -> None:
    nodes, cluster = Nodes(), Cluster()
    releases = cluster.releases(nodes)
    releases.look(workers("a+", "b+"), needed=None)
    cluster.now = 99.0
    releases.look(workers("a+", "b"), needed=None)
    assert not releases.has("b")
    cluster.now = 100.0
    releases.look(workers("a+", "b"), needed=None)
    assert (releases.has("a"), releases.has("b")) == (False, True)


def test_the_head_and_the_nodes_that_the_file_keeps_stay() -> None:
    nodes, cluster = Nodes(), Cluster()
    releases = cluster.releases(nodes, min_nodes=1)
    releases.look(workers("head", "a", "b+"), needed={"cpu": 1})
    assert [releases.has(name) for name in ("head", "a", "b")] == [False, True, False]


def test_a_node_that_nobody_has_seen_yet_stays() -> None:
    releases = Cluster().releases(Nodes())
    releases.look(workers("new", "a+"), needed={"cpu": 1})
    assert not releases.has("new")


def test_at_the_end_all_but_one_go_and_none_of_them_counts_as_given_up_before_it() -> None:
    nodes, cluster = Nodes(), Cluster()
    releases = cluster.releases(nodes)
    releases.look(workers("a+", "b+"), needed=None)
    releases.end()
    assert (cluster.went, nodes.given_up, nodes.has_ended) == (["b"], {}, True)


def test_looks_are_some_way_apart_and_who_keeps_all_never_looks() -> None:
    cluster = Cluster()
    releases = cluster.releases(Nodes())
    assert releases.is_due()
    releases.look([], needed=None)
    assert not releases.is_due()
    cluster.now = 0.5
    assert releases.is_due()
    assert not KeepAll().is_due()
    assert not KeepAll().has("a")
