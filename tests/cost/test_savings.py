"""What giving nodes up before the end of a search has saved, out of the log of its nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlcluster.cost import Node, NodeLog, node_bill, read_node_history, savings, savings_line
from mlcluster.cost.node_bill import NANO


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def node(name: str, *, released_at: float | None = None, usd_per_hour: float | None = 3.6) -> Node:
    return Node(
        node_id=name,
        node_type="worker",
        is_spot=False,
        is_head=False,
        resources={"CPU": 4.0},
        usd_per_hour=usd_per_hour,
        price_source="prices.yaml",
        launched_at=0.0,
        released_at=released_at,
    )


def searched(path: Path, *, ends_search: bool = True) -> None:
    """Two nodes at $0.001 a second; one is given up at 100, its Ray has ended at 101; the search ends at 160."""
    clock = Clock()
    log = NodeLog(path, clock=clock)
    log.see([node("n1"), node("n2")])
    clock.now = 100.0
    log.give_up("n2", reason="1 of 8 workers have something to train")
    clock.now = 104.0
    log.see([node("n1"), node("n2", released_at=101.0)])
    clock.now = 160.0
    if ends_search:
        log.end_search()
        clock.now = 200.0
    log.see([node("n1"), node("n2", released_at=101.0)])
    log.close()


def test_a_node_saves_what_it_would_have_cost_until_the_search_ended(tmp_path: Path) -> None:
    searched(tmp_path / "nodes.jsonl")
    history = read_node_history(tmp_path / "nodes.jsonl")
    (one,) = savings(history)
    assert (one.node.node_id, one.at, one.seconds, one.usd) == ("n2", 101.0, 59.0, pytest.approx(0.059))
    assert one.reason == "1 of 8 workers have something to train"
    # What was kept and what was saved are what both had cost to the end.
    until_160 = 0.001 * 160 + 0.001 * 101
    assert node_bill(history).nano_usd == round((until_160 + 0.001 * 40) * NANO)
    assert until_160 + one.usd == pytest.approx(0.001 * 320)


def test_the_sum_is_told_in_words(tmp_path: Path) -> None:
    searched(tmp_path / "nodes.jsonl")
    line = savings_line(savings(read_node_history(tmp_path / "nodes.jsonl")))
    assert line == "1 node given up before the search ended: 59 node-seconds, $0.059000 less than all to the end"
    assert savings_line(()) is None


def test_of_a_driver_that_died_a_node_saves_until_its_last_word(tmp_path: Path) -> None:
    searched(tmp_path / "nodes.jsonl", ends_search=False)
    (one,) = savings(read_node_history(tmp_path / "nodes.jsonl"))
    assert one.seconds == 59.0


def test_a_node_that_did_not_go_and_one_without_a_price_save_no_dollars(tmp_path: Path) -> None:
    clock = Clock()
    log = NodeLog(tmp_path / "nodes.jsonl", clock=clock)
    log.see([node("stays"), node("free", usd_per_hour=None)])
    for name in ("stays", "free", "never seen"):
        log.give_up(name, reason="idle")
    log.see([node("stays"), node("free", usd_per_hour=None, released_at=1.0)])
    clock.now = 10.0
    log.end_search()
    log.close()
    found = savings(read_node_history(tmp_path / "nodes.jsonl"))
    assert [(one.node.node_id, one.seconds, one.usd) for one in found] == [("stays", 0.0, 0.0), ("free", 9.0, 0.0)]


def test_a_node_that_was_given_up_costs_nothing_from_then_on_though_no_look_has_missed_it_yet(tmp_path: Path) -> None:
    log = NodeLog(tmp_path / "nodes.jsonl", clock=Clock())
    log.see([node("n1"), node("n2")])
    assert log.usd_per_second == pytest.approx(0.002)
    log.give_up("n2", reason="idle")
    assert log.usd_per_second == pytest.approx(0.001)
    assert len(log.present) == 2
    log.close()
