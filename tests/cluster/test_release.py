"""Which nodes a study gives up: what trains keeps its place, and nothing stays that the rest cannot use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from mlcluster.cluster import StudyNode, nodes_to_release

START_SECONDS = 180.0


def node(
    name: str, busy: int, idle: int, *, usd: float = 0.4, idle_seconds: float = 0.0, may_go: bool = True
) -> StudyNode:
    return StudyNode(
        node_id=name,
        busy={"cpu": busy},
        idle={"cpu": idle},
        usd_per_hour=usd,
        idle_seconds=idle_seconds,
        may_go=may_go,
    )


def busy(nodes: Sequence[StudyNode]) -> Counter[str]:
    return sum((Counter(one.busy) for one in nodes), Counter())


def released(*nodes: StudyNode, may_grow: bool = False) -> dict[str, bool]:
    """By node that goes, where what trains now is all that goes on: whether it can go at once."""
    found = nodes_to_release(nodes, needed=None if may_grow else busy(nodes), start_seconds=START_SECONDS)
    return {one.node_id: one.is_empty for one in found}


def test_what_trains_is_packed_on_the_node_that_trains_most() -> None:
    nodes = (node("a", 1, 3), node("b", 2, 2), node("c", 0, 4, idle_seconds=1.0))
    assert released(*nodes) == {"a": False, "c": True}


def test_a_large_node_that_must_stay_anyway_takes_in_the_small_ones_work() -> None:
    assert released(node("small", 2, 0, usd=0.1), node("large", 1, 7, usd=0.4)) == {"small": False}


def test_each_kind_of_worker_has_its_place() -> None:
    cpus = StudyNode(node_id="cpus", busy={"cpu": 3}, idle={"cpu": 5}, usd_per_hour=0.4)
    gpus = StudyNode(node_id="gpus", busy={"gpu": 1}, idle={"cpu": 3}, usd_per_hour=2.0)
    # The GPU's node has room for what the other trains, and must stay for the GPU.
    assert released(cpus, gpus) == {"cpus": False}


def test_while_the_study_may_grow_only_a_node_that_was_idle_for_a_start_goes() -> None:
    nodes = (
        node("a", 1, 3),
        node("b", 0, 4, idle_seconds=START_SECONDS - 1),
        node("c", 0, 4, idle_seconds=START_SECONDS),
    )
    assert released(*nodes, may_grow=True) == {"c": True}


def test_the_head_and_what_the_cluster_file_keeps_stay_and_one_node_does_in_any_case() -> None:
    assert released(node("head", 0, 4, may_go=False), node("a", 0, 4)) == {"a": True}
    assert released(node("a", 0, 4, usd=0.1), node("b", 0, 4, usd=0.4)) == {"b": True}
    assert released() == {}


def test_trials_that_are_trained_as_one_may_go_on_apart_and_have_a_slot_each() -> None:
    nodes = (node("a", 1, 1), node("b", 0, 2), node("c", 0, 2))
    found = nodes_to_release(nodes, needed={"cpu": 3}, start_seconds=START_SECONDS)
    assert [one.node_id for one in found] == ["c"]
    assert nodes_to_release(nodes, needed={"cpu": 99}, start_seconds=START_SECONDS) == ()


def test_the_reason_has_both_numbers() -> None:
    (one,) = nodes_to_release([node("a", 0, 4), node("b", 1, 3)], needed={"cpu": 1}, start_seconds=START_SECONDS)
    assert one.reason == "no new trial will start, and what goes on can use 1 of 8 workers"
    idle = [node("a", 1, 0), node("b", 0, 1, idle_seconds=200.0)]
    (one,) = nodes_to_release(idle, needed=None, start_seconds=START_SECONDS)
    assert one.reason == "idle for 200 s, in which its like would have started"


@st.composite
def studies(draw: st.DrawFn) -> list[StudyNode]:
    counts = st.fixed_dictionaries({"cpu": st.integers(0, 4), "gpu": st.integers(0, 2)})
    return [
        StudyNode(
            node_id=f"n{number}",
            busy=draw(counts),
            idle=draw(counts),
            usd_per_hour=draw(st.sampled_from([0.1, 0.4, 2.0])),
            idle_seconds=draw(st.sampled_from([0.0, 100.0, 300.0])),
            may_go=draw(st.booleans()),
        )
        for number in range(draw(st.integers(1, 6)))
    ]


@given(studies(), st.booleans())
def test_all_that_trains_has_a_slot_on_what_stays_and_no_node_stays_that_could_go_as_well(
    nodes: list[StudyNode], may_grow: bool
) -> None:
    needed = busy(nodes)
    found = nodes_to_release(nodes, needed=None if may_grow else needed, start_seconds=START_SECONDS)
    going = {one.node_id for one in found}
    kept = [one for one in nodes if one.node_id not in going]
    assert kept
    assert not needed - slots(kept)
    assert all(one.may_go for one in nodes if one.node_id in going)
    if not may_grow and len(kept) > 1:
        assert all(needed - slots([other for other in kept if other is not one]) for one in kept if one.may_go)


def slots(nodes: Sequence[StudyNode]) -> Counter[str]:
    return sum((one.slots for one in nodes), Counter())
