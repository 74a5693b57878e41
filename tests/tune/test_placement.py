"""Which kind of worker a piece runs on: the switch lies where the dollars are equal, and moves with the prices."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlcluster.cost import WorkerKind
from mlcluster.tune.placement import Seconds, Wait, cheapest_worker, first_on, rather_than_idle, wait_seconds

LAUNCH_SECONDS = 2.0
CPU_SPEED, GPU_SPEED = 10.0, 400.0
"""Work a second; a GPU pays the launch first."""

speeds = st.floats(1.0, 1e3)
prices = st.floats(1e-6, 1e-2)


def kinds(cpu_usd: float = 1.0, gpu_usd: float = 8.0) -> tuple[WorkerKind, WorkerKind]:
    return (
        WorkerKind(name="cpu", num_slots=2, usd_per_second=cpu_usd),
        WorkerKind(name="gpu", num_slots=1, usd_per_second=gpu_usd),
    )


def seconds_of(work: float, *, cpu: float = CPU_SPEED, gpu: float = GPU_SPEED) -> Seconds:
    return {"cpu": work / cpu, "gpu": LAUNCH_SECONDS + work / gpu}


def crossover(cpu_usd: float, gpu_usd: float, *, cpu: float = CPU_SPEED, gpu: float = GPU_SPEED) -> float:
    """The work w at which w / cpu x cpu_usd = (launch + w / gpu) x gpu_usd."""
    return LAUNCH_SECONDS * gpu_usd / (cpu_usd / cpu - gpu_usd / gpu)


def test_the_switch_lies_exactly_at_the_crossover_of_the_dollars() -> None:
    switch = crossover(1.0, 8.0)
    assert switch == pytest.approx(200.0)
    assert cheapest_worker(seconds_of(math.nextafter(switch, 0) * (1 - 1e-12)), kinds()).worker == "cpu"
    assert cheapest_worker(seconds_of(switch * (1 + 1e-12)), kinds()).worker == "gpu"
    assert first_on("gpu", range(1, 1_000), kinds(), seconds_of) == 201
    assert cheapest_worker(seconds_of(200), kinds()).worker == "cpu"  # equal dollars: the kind that comes first


@settings(deadline=None)
@given(cpu_usd=prices, gpu_usd=prices, cpu=speeds, gpu=speeds, nearness=st.floats(1e-6, 0.5))
def test_on_either_side_of_the_crossover_of_any_speeds_and_prices_is_the_right_kind(
    cpu_usd: float, gpu_usd: float, cpu: float, gpu: float, nearness: float
) -> None:
    assume(gpu_usd / gpu < 0.9 * cpu_usd / cpu)
    switch = crossover(cpu_usd, gpu_usd, cpu=cpu, gpu=gpu)
    placed = [
        cheapest_worker(seconds_of(switch * factor, cpu=cpu, gpu=gpu), kinds(cpu_usd, gpu_usd)).worker
        for factor in (1 - nearness, 1 + nearness)
    ]
    assert placed == ["cpu", "gpu"]


@settings(deadline=None)
@given(works=st.tuples(st.floats(1e-3, 1e6), st.floats(1e-3, 1e6)), cpu_usd=prices, gpu_usd=prices, cpu=speeds)
def test_more_work_never_moves_a_piece_back_to_the_cpu(
    works: tuple[float, float], cpu_usd: float, gpu_usd: float, cpu: float
) -> None:
    less, more = (cheapest_worker(seconds_of(work, cpu=cpu), kinds(cpu_usd, gpu_usd)).worker for work in sorted(works))
    assert (less, more) != ("gpu", "cpu")


@settings(deadline=None)
@given(work=st.floats(1e-3, 1e6), cpu_usd=prices, gpu_usd=st.tuples(prices, prices))
def test_a_dearer_gpu_never_gains_a_piece(work: float, cpu_usd: float, gpu_usd: tuple[float, float]) -> None:
    cheap, dear = (cheapest_worker(seconds_of(work), kinds(cpu_usd, price)).worker for price in sorted(gpu_usd))
    assert (cheap, dear) != ("cpu", "gpu")


@pytest.mark.parametrize(("gpu_usd", "first"), [(4.0, 89), (8.0, 201), (20.0, 801), (40.0, None)])
def test_the_price_of_the_gpu_moves_the_crossover_and_may_leave_none(gpu_usd: float, first: int | None) -> None:
    assert first_on("gpu", range(1, 2_000), kinds(1.0, gpu_usd), seconds_of) == first


def test_the_reason_names_seconds_and_dollars_of_each_kind() -> None:
    assert cheapest_worker(seconds_of(400.0), kinds()).reason == "cheapest: gpu 3 s for $24, cpu 40 s for $40"
    assert cheapest_worker({"cpu": 3.0}, kinds()).reason == "only a cpu worker can train it"


def test_an_idle_slot_takes_what_waits_for_another_kind_only_if_it_is_done_no_later() -> None:
    seconds: Seconds = {"cpu": 30.0, "gpu": 10.0}
    taken = rather_than_idle("cpu", seconds, Wait(home="gpu", wait_seconds=20.0))
    assert taken is not None
    assert taken.worker == "cpu"
    assert taken.reason == (
        "the cpu worker would idle, and has it done in 30 s; the gpu workers in 30 s, 20 s of waiting included"
    )
    assert rather_than_idle("cpu", seconds, Wait(home="gpu", wait_seconds=19.9)) is None
    assert rather_than_idle("gpu", {"cpu": 30.0}, Wait(home="cpu", wait_seconds=1e9)) is None


def test_the_wait_of_the_next_in_line_is_that_of_a_queue_before_several_counters() -> None:
    assert wait_seconds([], [], num_slots=2) == 0.0
    assert wait_seconds([5.0], [], num_slots=2) == 0.0
    assert wait_seconds([5.0, 3.0], [], num_slots=2) == 3.0
    assert wait_seconds([5.0, 3.0], [1.0, 1.0], num_slots=2) == 5.0
    assert wait_seconds([5.0, 3.0], [10.0], num_slots=2) == 5.0
