"""A machine costs from its launch: the minutes before it joins are a node of their own."""

from __future__ import annotations

from dataclasses import replace

from mlcluster.cluster import NodeFacts
from mlcluster.cluster.starting_nodes import PendingInstances, StartingNodes

JOINED = NodeFacts(
    node_id="ab",
    address="10.0.0.2",
    node_type="cpu-spot",
    is_spot=True,
    is_head=False,
    resources={"CPU": 8.0},
    launched_at=190.0,
    released_at=None,
)
TYPES = {"10.0.0.2": "cpu-spot"}


def test_a_machine_that_boots_is_a_node_until_it_joins() -> None:
    starting = StartingNodes()
    (booting,) = starting.look(TYPES, [], now=60.0)
    assert (booting.node_type, booting.launched_at, booting.released_at) == ("cpu-spot", 60.0, None)
    assert starting.look(TYPES, [], now=120.0) == [booting]
    assert starting.look(TYPES, [JOINED], now=200.0) == [replace(booting, released_at=190.0)]
    assert starting.look(TYPES, [JOINED], now=205.0) == [replace(booting, released_at=190.0)]


def test_a_machine_that_never_joins_ends_when_the_autoscaler_lets_it_go() -> None:
    starting = StartingNodes()
    assert len(starting.look(TYPES, [], now=60.0)) == 1
    assert starting.look({}, [], now=120.0) == []


def test_a_machine_that_is_there_from_the_first_look_on_does_not_start() -> None:
    assert StartingNodes().look(TYPES, [JOINED], now=200.0) == []


def test_a_machine_whose_ray_went_costs_until_it_is_back_or_gone() -> None:
    starting = StartingNodes()
    starting.look(TYPES, [JOINED], now=200.0)
    (again,) = starting.look(TYPES, [replace(JOINED, released_at=250.0)], now=255.0)
    assert (again.launched_at, again.released_at) == (255.0, None)


PENDING = {"i-1": "cpu-spot"}


def test_an_instance_that_is_pending_is_a_node_until_one_of_its_type_has_come() -> None:
    pending = PendingInstances()
    (booting,) = pending.look(PENDING, [], now=60.0)
    assert (booting.node_type, booting.launched_at, booting.released_at) == ("cpu-spot", 60.0, None)
    assert pending.look(PENDING, [], now=120.0) == [booting]
    for _ in range(2):
        assert pending.look({}, [JOINED], now=200.0) == [replace(booting, released_at=190.0)]
    assert pending.look({}, [replace(JOINED, released_at=300.0)], now=301.0) == []


def test_nodes_of_another_type_or_from_before_are_not_what_it_has_become() -> None:
    others = [replace(JOINED, node_id="cd", node_type="cpu"), replace(JOINED, node_id="ef", launched_at=10.0)]
    pending = PendingInstances()
    pending.look(PENDING, others, now=60.0)
    assert pending.look({}, others, now=200.0) == []


def test_two_instances_become_two_nodes_in_their_order() -> None:
    pending = PendingInstances()
    pending.look(PENDING, [], now=60.0)
    pending.look({**PENDING, "i-2": "cpu-spot"}, [], now=100.0)
    later = replace(JOINED, node_id="cd", launched_at=230.0)
    found = pending.look({}, [later, JOINED], now=240.0)
    assert [(one.launched_at, one.released_at) for one in found] == [(60.0, 190.0), (100.0, 230.0)]
    assert pending.look({}, [later, JOINED], now=250.0) == found


def test_an_instance_that_had_joined_when_it_was_first_heard_of_costs_nothing_twice() -> None:
    pending = PendingInstances()
    pending.look(PENDING, [JOINED], now=191.0)
    (found,) = pending.look({}, [JOINED], now=196.0)
    assert (found.launched_at, found.released_at) == (191.0, 191.0)
