"""The nodes' bill: everything on it is somebody's, to the nano-dollar, and a file that was torn tells the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcluster.cost import Node, NodeHistory, NodeLog, NodesBill, Span, Stage, Work, node_bill, read_node_history
from mlcluster.cost.node_bill import NANO, apportion
from mlcluster.errors import ClusterError

HOUR = 3600.0


def node(name: str = "n1", **more: Any) -> Node:
    plain: dict[str, Any] = {
        "node_id": name,
        "node_type": "worker",
        "is_spot": False,
        "is_head": False,
        "resources": {"CPU": 4.0},
        "usd_per_hour": 0.4,
        "price_source": "prices.yaml",
        "launched_at": 0.0,
    }
    return Node(**{**plain, **more})


def work(begin: float, end: float, *trials: str, cpus: float = 1.0, **more: Any) -> Work:
    plain: dict[str, Any] = {"node_id": "n1", "resources": {"CPU": cpus}, "trials": dict.fromkeys(trials, 1.0)}
    return Work(span=Span(begin=begin, end=end), **{**plain, **more})


def whole(bill: NodesBill) -> int:
    return sum(bill.trials.values()) + sum(bill.stages.values()) + bill.idle_nano_usd + bill.lost_nano_usd


def hours(begin: float, end: float) -> Span:
    return Span(begin=begin * HOUR, end=end * HOUR)


def test_a_bill_by_hand() -> None:
    """$0.40 an hour, 4 slots: a stage of an hour, then an hour with one slot for t1, one lost, and two idle."""
    history = NodeHistory(
        nodes=(node(), node("head", is_head=True, resources={"CPU": 0.0}, usd_per_hour=0.1)),
        work=(work(HOUR, 2 * HOUR, "t1"), work(HOUR, 2 * HOUR, "t2", is_lost=True)),
        stages=(Stage(name="data", span=hours(0, 1)),),
        drivers=(hours(0, 2),),
    )
    bill = node_bill(history)
    assert bill.nano_usd == round(1.0 * NANO)
    assert bill.trials == {"t1": round(0.1 * NANO)}
    assert bill.stages == {"data": round(0.5 * NANO)}
    assert (bill.lost_nano_usd, bill.idle_nano_usd) == (round(0.1 * NANO), round(0.3 * NANO))
    worker, head = bill.accounts
    assert (worker.working_nano_usd, head.idle_nano_usd) == (round(0.5 * NANO), round(0.1 * NANO))


def test_only_the_time_in_which_the_run_was_driven_is_its_own() -> None:
    gone = node(launched_at=-5 * HOUR, released_at=3.5 * HOUR)
    bill = node_bill(NodeHistory(nodes=(gone,), drivers=(hours(0, 1), hours(3, 4))))
    assert bill.accounts[0].milliseconds == 1.5 * HOUR * 1000
    assert bill.nano_usd == bill.idle_nano_usd == round(0.6 * NANO)


def test_work_that_asks_for_more_than_a_node_has_shares_what_there_is() -> None:
    crowded = (work(0, HOUR, "t1", cpus=4.0), work(0, HOUR, "t2", cpus=4.0), work(0, HOUR, "t3", cpus=2.0))
    bill = node_bill(NodeHistory(nodes=(node(),), work=crowded, drivers=(hours(0, 1),)))
    assert bill.trials == {"t1": 160_000_000, "t2": 160_000_000, "t3": 80_000_000}
    assert bill.idle_nano_usd == 0


def test_who_holds_the_only_gpu_of_a_node_holds_the_node() -> None:
    gpu_node = node(resources={"CPU": 4.0, "GPU": 1.0})
    held = (work(0, HOUR, "t1", resources={"CPU": 1.0, "GPU": 1.0}),)
    assert node_bill(NodeHistory(nodes=(gpu_node,), work=held, drivers=(hours(0, 1),))).idle_nano_usd == 0


def test_trials_that_are_trained_as_one_split_by_their_seconds() -> None:
    together = (work(0, HOUR, trials={"t1": 30.0, "t2": 10.0}, cpus=4.0),)
    bill = node_bill(NodeHistory(nodes=(node(),), work=together, drivers=(hours(0, 1),)))
    assert bill.trials == {"t1": 300_000_000, "t2": 100_000_000}


def test_a_node_without_a_price_is_named_and_costs_nothing_here() -> None:
    bill = node_bill(NodeHistory(nodes=(node(usd_per_hour=None),), drivers=(hours(0, 1),)))
    assert bill.nano_usd == 0
    assert [one.node.node_id for one in bill.unpriced] == ["n1"]


moments = st.floats(0, 10_000, allow_nan=False)
spans = st.tuples(moments, moments).map(lambda ends: Span(begin=min(ends), end=max(ends)))


@st.composite
def histories(draw: st.DrawFn) -> NodeHistory:
    names = [f"n{number}" for number in range(draw(st.integers(1, 3)))]
    nodes = [
        node(
            name,
            launched_at=(life := draw(spans)).begin,
            released_at=draw(st.sampled_from([None, life.end])),
            resources={"CPU": float(draw(st.integers(0, 8)))},
            usd_per_hour=draw(st.floats(1e-6, 100)),
        )
        for name in names
    ]
    works = st.builds(
        Work,
        node_id=st.sampled_from([*names, "unknown"]),
        span=spans,
        resources=st.fixed_dictionaries({"CPU": st.sampled_from([0.0, 0.5, 1.0, 3.0])}),
        trials=st.dictionaries(st.sampled_from(["t1", "t2", "t3"]), st.floats(0, 1e4), min_size=1),
        is_lost=st.booleans(),
    )
    stages = st.builds(Stage, name=st.sampled_from(["data", "verify"]), span=spans)
    starts = sorted(draw(st.lists(moments, min_size=2, max_size=4, unique=True)))
    drivers = tuple(Span(begin=a, end=b) for a, b in zip(starts[::2], starts[1::2], strict=False))
    return NodeHistory(
        nodes=tuple(nodes),
        work=tuple(draw(st.lists(works, max_size=12))),
        stages=tuple(draw(st.lists(stages, max_size=3))),
        drivers=drivers,
    )


@given(histories())
def test_trials_stages_idle_and_lost_are_the_bill_and_the_bill_is_price_times_time(history: NodeHistory) -> None:
    bill = node_bill(history)
    assert whole(bill) == bill.nano_usd
    for one in bill.accounts:
        assert one.working_nano_usd + one.idle_nano_usd + one.lost_nano_usd == one.nano_usd
        assert min(one.working_nano_usd, one.idle_nano_usd, one.lost_nano_usd) >= 0
        exact = Fraction(one.node.usd_per_hour or 0) * one.milliseconds / 3_600_000 * NANO
        # The price is rounded to a nano-dollar an hour once, and the product once.
        assert abs(one.nano_usd - exact) <= Fraction(one.milliseconds, 7_200_000) + Fraction(1, 2)


@given(st.integers(0, 10**12), st.lists(st.fractions(0, 1000), min_size=1, max_size=20))
def test_what_is_apportioned_adds_up_and_is_off_by_less_than_one(total: int, weights: list[Fraction]) -> None:
    parts = apportion(total, weights)
    assert sum(parts) == total
    if any(weights):
        pairs = zip(parts, weights, strict=True)
        assert all(abs(part - total * weight / sum(weights)) < 1 for part, weight in pairs)


def ticking(step: float = 10.0) -> Callable[[], float]:
    now = [0.0]

    def clock() -> float:
        now[0] += step
        return now[0]

    return clock


def logged(path: Path) -> None:
    """Opened at 10, work from 40 to 50 and from 60 on, a last look at 70: then the driver was killed."""
    log = NodeLog(path, clock=ticking())
    log.see([node()])
    log.begin_work("w1", node_id="n1", resources={"CPU": 1.0}, trials=["t1"])
    log.end_work("w1", seconds={"t1": 9.0})
    log.begin_work("w1", node_id="n1", resources={"CPU": 2.0}, trials=["t2", "t3"])
    log.see([node()])
    content = path.read_bytes()
    log.close()
    path.write_bytes(content)


def test_what_is_under_way_when_a_driver_dies_is_lost(tmp_path: Path) -> None:
    logged(tmp_path / "nodes.jsonl")
    history = read_node_history(tmp_path / "nodes.jsonl")
    # It was killed at some moment within five seconds of its last look, and all five are on the bill.
    assert history.drivers == (Span(begin=10.0, end=75.0),)
    assert [(one.span.begin, one.span.end, one.is_lost) for one in history.work] == [(40, 50, False), (60, 75, True)]
    bill = node_bill(history)
    assert bill.trials == {"t1": pytest.approx(0.4 * NANO * 10 / HOUR / 4, abs=1)}
    assert bill.lost_nano_usd == pytest.approx(0.4 * NANO * 15 / HOUR / 2, abs=1)
    assert whole(bill) == bill.nano_usd == round(0.4 * NANO * 65 / HOUR)


@pytest.mark.parametrize(("opens_at", "killed_until"), [(72.0, 72.0), (75.0, 75.0), (500.0, 75.0)])
def test_a_driver_that_was_killed_did_not_live_on_beside_the_next(
    tmp_path: Path, opens_at: float, killed_until: float
) -> None:
    logged(tmp_path / "nodes.jsonl")
    NodeLog(tmp_path / "nodes.jsonl", clock=lambda: opens_at).close()
    first, second = read_node_history(tmp_path / "nodes.jsonl").drivers
    assert (first, second) == (Span(begin=10.0, end=killed_until), Span(begin=opens_at, end=opens_at))


def test_what_a_spot_interruption_has_lost_is_told_apart(tmp_path: Path) -> None:
    log = NodeLog(tmp_path / "nodes.jsonl", clock=ticking())
    log.see([node(usd_per_hour=0.36)])
    for cause in ("spot interruption", ""):
        log.begin_work("w1", node_id="n1", resources={"CPU": 4.0}, trials=["t1"])
        log.end_work("w1", is_lost=True, cause=cause)
    log.close()
    bill = node_bill(read_node_history(tmp_path / "nodes.jsonl"))
    assert (bill.lost_nano_usd, bill.lost_by_cause) == (2_000_000, {"spot interruption": 1_000_000})


def test_a_file_that_is_torn_anywhere_tells_what_its_whole_lines_tell(tmp_path: Path) -> None:
    path = tmp_path / "nodes.jsonl"
    logged(path)
    content = path.read_bytes()
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        bill = node_bill(read_node_history(path))
        assert whole(bill) == bill.nano_usd
        NodeLog(path, clock=lambda: 100.0).close()
        assert path.read_bytes().startswith(content[: content[:length].rfind(b"\n") + 1])
        assert all(json.loads(line) for line in path.read_text().splitlines())


def test_while_a_driver_lives_its_work_is_under_way_and_nobody_else_writes(tmp_path: Path) -> None:
    path = tmp_path / "nodes.jsonl"
    log = NodeLog(path, clock=ticking())
    log.see([node()])
    log.begin_work("w1", node_id="n1", resources={"CPU": 4.0}, trials=["t1"])
    log.see([node()])
    assert not read_node_history(path).work[0].is_lost
    with pytest.raises(ClusterError, match=r"^nodes.jsonl is in use by another process"):
        NodeLog(path, clock=ticking())
    log.close()
    assert read_node_history(path).work[0].is_lost


def test_a_node_that_went_while_nobody_looked_was_released_when_the_cluster_says(tmp_path: Path) -> None:
    path = tmp_path / "nodes.jsonl"
    clock = ticking()
    first = NodeLog(path, clock=clock)
    first.see([node(), node("n2")])
    first.close()
    second = NodeLog(path, clock=clock)
    second.see([node(released_at=42.0), node("n3", launched_at=1.0, released_at=2.0)])
    second.close()
    assert {one.node_id: one.released_at for one in read_node_history(path).nodes} == {"n1": 42, "n2": None, "n3": 2}


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nodes.jsonl"
    path.write_text('{"op": "open", "at": 1}\n{"op": "dance", "at": 2}\n')
    with pytest.raises(ClusterError, match=r"^nodes.jsonl:2 is no line of a node log; restore"):
        read_node_history(path)
