"""The cheapest nodes by stage: by hand, against every plan there is, and never dearer than the best of one size."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcluster.cluster import Goal, NodeOffer, SpeedUp, best_static_plan, halving_stages, plan_nodes
from mlcluster.cluster.elastic import ElasticPlan
from mlcluster.cluster.stage_schedule import Stage, schedule_stage
from mlcluster.errors import SpecError

ONE = NodeOffer(name="one", usd_per_hour=3600.0, slots=1, max_nodes=8, start_seconds=0.0)
"""A dollar a second."""
FOUR = NodeOffer(name="four", usd_per_hour=4 * 3600.0, slots=4, max_nodes=4, start_seconds=0.0)
ANY_TIME = Goal(deadline_seconds=math.inf)


def stages(*seconds: tuple[float, ...]) -> list[Stage]:
    return [Stage(seconds=one) for one in seconds]


def sizes(plan: ElasticPlan) -> list[tuple[str, int]]:
    return [(step.offer.name, step.num_nodes) for step in plan.stages]


def test_trials_go_longest_first_to_the_slot_that_is_free_first() -> None:
    run = schedule_stage(Stage(seconds=(1.0, 5.0, 2.0, 2.0)), ONE, 2, SpeedUp())
    assert (run.seconds, run.free_after) == (5.0, (5.0, 5.0))
    run = schedule_stage(Stage(seconds=(6.0, 1.0)), ONE, 3, SpeedUp())
    assert run.free_after == (0.0, 1.0, 6.0)
    assert (run.node_seconds(0), run.node_seconds(1), run.node_seconds(3)) == (7.0, 7.0, 18.0)


def test_a_trial_on_several_slots_is_done_sooner_by_amdahls_law() -> None:
    run = schedule_stage(Stage(seconds=(90.0,)), FOUR, 1, SpeedUp(parallel_share=0.8))
    assert run.seconds == pytest.approx(90.0 * (0.2 + 0.8 / 4))
    assert schedule_stage(Stage(seconds=(90.0,)), FOUR, 1, SpeedUp()).seconds == 90.0


def test_halving_ends_with_one_trial_whose_parts_are_a_whole_training() -> None:
    found = halving_stages(81, 810.0, reduction_factor=3)
    assert [len(stage.seconds) for stage in found] == [81, 27, 9, 3, 1]
    assert sum(stage.seconds[0] for stage in found) == pytest.approx(810.0)
    assert found[0].seconds[0] == pytest.approx(10.0)


def test_the_cluster_shrinks_with_the_trials_where_the_deadline_is_near() -> None:
    study = stages((10.0,) * 4, (10.0,) * 2, (10.0,))
    plan = plan_nodes(study, [ONE], Goal(deadline_seconds=30.0))
    assert sizes(plan) == [("one", 4), ("one", 2), ("one", 1)]
    assert (plan.seconds, plan.usd) == (30.0, 70.0)
    static = best_static_plan(study, [ONE], Goal(deadline_seconds=30.0))
    assert (sizes(static)[0], static.usd) == (("one", 4), 120.0)


def test_where_the_deadline_is_far_one_node_without_idle_time_is_as_cheap_as_anything() -> None:
    study = stages((10.0,) * 4, (10.0,) * 2, (10.0,))
    assert plan_nodes(study, [ONE], ANY_TIME).usd == best_static_plan(study, [ONE], ANY_TIME).usd == 70.0


def test_a_node_that_has_to_start_is_waited_for_and_paid_for() -> None:
    slow = NodeOffer(name="slow", usd_per_hour=3600.0, slots=1, max_nodes=2, start_seconds=5.0)
    plan = plan_nodes(stages((10.0,), (10.0, 10.0)), [slow], Goal(deadline_seconds=30.0))
    # A second node from the beginning idles for 10 s (50 dollars in all); asked for later, both wait 5 s for it.
    assert sizes(plan) == [("slow", 1), ("slow", 2)]
    assert (plan.seconds, plan.usd) == (5.0 + 10.0 + 5.0 + 10.0, 5.0 + 10.0 + 2 * 15.0)
    held = plan_nodes(stages((10.0,), (10.0, 10.0)), [slow], Goal(deadline_seconds=20.0), held=(slow, 2))
    assert (held.seconds, held.usd, held.meets_deadline) == (20.0, 40.0, True)


@pytest.mark.parametrize(
    ("deadline", "budget", "usd", "met", "reason"),
    [
        (40.0, 100.0, 70.0, (True, True), "the cheapest within the deadline"),
        (30.0, 100.0, 70.0, (True, True), "the cheapest within the deadline"),
        (30.0, 60.0, 70.0, (True, False), "the budget holds no plan at all; the cheapest there is"),
        (29.0, 100.0, 70.0, (False, True), "no size meets the deadline; the fastest within the budget"),
    ],
)
def test_near_or_far_tight_or_not(
    deadline: float, budget: float, usd: float, met: tuple[bool, bool], reason: str
) -> None:
    study = stages((10.0,) * 4, (10.0,) * 2, (10.0,))
    plan = plan_nodes(study, [ONE], Goal(deadline_seconds=deadline, budget_usd=budget))
    assert (plan.usd, plan.reason) == (usd, reason)
    assert plan.meets_budget == met[1]
    assert plan.meets_deadline == met[0] or budget < 70.0


def test_a_deadline_that_the_budget_does_not_hold_is_told_with_its_price() -> None:
    study = stages((10.0,) * 3)
    dear = NodeOffer(name="dear", usd_per_hour=2 * 3600.0, slots=1, max_nodes=3, start_seconds=0.0)
    cheap = NodeOffer(name="cheap", usd_per_hour=3600.0, slots=1, max_nodes=1, start_seconds=0.0)
    plan = plan_nodes(study, [dear, cheap], Goal(deadline_seconds=10.0, budget_usd=40.0))
    assert plan.reason == "the deadline would cost $60; the fastest within the budget"
    assert sizes(plan) == [("cheap", 1)]


def test_without_trials_or_nodes_there_is_nothing_to_plan() -> None:
    with pytest.raises(SpecError, match=r"^stages = 0 trials leaves nothing to plan for"):
        plan_nodes([], [ONE], ANY_TIME)
    with pytest.raises(SpecError, match=r"^offers = none leaves no node to train on"):
        plan_nodes(stages((1.0,)), [], ANY_TIME)


def durations(seed: int, counts: tuple[int, ...]) -> list[Stage]:
    rng = random.Random(seed)
    return [Stage(seconds=tuple(rng.lognormvariate(5.0, 0.6) for _ in range(count))) for count in counts]


OFFERS = [
    NodeOffer(name="small", usd_per_hour=0.1, slots=2, max_nodes=6, start_seconds=60.0),
    NodeOffer(name="large", usd_per_hour=0.37, slots=8, max_nodes=3, start_seconds=60.0, speed=1.1),
]


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.0, 0.7]), deadline=st.floats(100.0, 20_000.0))
def test_a_plan_is_never_dearer_than_the_best_of_one_size_and_keeps_its_word(
    seed: int, share: float, deadline: float
) -> None:
    study, speed_up, goal = durations(seed, (9, 3, 1)), SpeedUp(parallel_share=share), Goal(deadline_seconds=deadline)
    plan = plan_nodes(study, OFFERS, goal, speed_up=speed_up)
    static = best_static_plan(study, OFFERS, goal, speed_up=speed_up)
    if static.meets_deadline:
        assert plan.meets_deadline
        assert plan.usd <= static.usd + 1e-9
    assert plan.meets_deadline == (plan.seconds <= deadline)
    assert plan.seconds == pytest.approx(sum(step.start_seconds + step.seconds for step in plan.stages))


@pytest.mark.parametrize("seed", range(6))
def test_no_plan_of_all_there_are_is_cheaper(seed: int) -> None:
    study = durations(seed, (5, 2))
    fastest = plan_nodes(study, OFFERS, Goal(deadline_seconds=0.0)).seconds
    goal = Goal(deadline_seconds=1.5 * fastest)
    every = [(offer, count) for offer in OFFERS for count in range(1, offer.max_nodes + 1)]
    best = min(
        usd
        for first, second in itertools.product(every, every)
        for seconds, usd in [by_hand(study, first, second)]
        if seconds <= goal.deadline_seconds
    )
    assert plan_nodes(study, OFFERS, goal).usd == pytest.approx(best)


def by_hand(study: list[Stage], first: tuple[NodeOffer, int], second: tuple[NodeOffer, int]) -> tuple[float, float]:
    """Seconds and dollars of two stages on given nodes, counted without the planner."""
    runs = [schedule_stage(stage, *size, SpeedUp()) for stage, size in zip(study, (first, second), strict=True)]
    is_same = first[0] is second[0]
    keep = min(first[1], second[1]) if is_same else 0
    wait = 0.0 if is_same and second[1] <= first[1] else second[0].start_seconds
    node_seconds = [
        first[0].start_seconds * first[1] + runs[0].node_seconds(keep),
        wait * second[1] + runs[1].node_seconds(0),
    ]
    usd = sum(one * size[0].usd_per_hour / 3600.0 for one, size in zip(node_seconds, (first, second), strict=True))
    return first[0].start_seconds + runs[0].seconds + wait + runs[1].seconds, usd


def test_the_same_study_gives_the_same_plan_and_another_another() -> None:
    goal = Goal(deadline_seconds=2_000.0)
    assert plan_nodes(durations(1, (9, 3, 1)), OFFERS, goal) == plan_nodes(durations(1, (9, 3, 1)), OFFERS, goal)
    assert plan_nodes(durations(1, (9, 3, 1)), OFFERS, goal) != plan_nodes(durations(2, (9, 3, 1)), OFFERS, goal)
