"""What there is to choose from: within the bounds, the same for the same seed, near the best where it should be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcluster.search import Candidate
from mlcluster.search.growing_bounds import GrowingBounds
from mlcluster.search.joint_space import JointSpace
from mlcluster.search.proposals import Proposals, ProposalShape
from mlcluster.spec import FloatDomain, IntDomain

SPACES = {
    "nets": {name: FloatDomain(low=0.0, high=1.0, default=0.5) for name in ("a", "b", "c")},
    "trees": {"depth": IntDomain(low=1, high=12, default=6)},
}
SPACE = JointSpace(SPACES)


def proposals(*, seed: int = 0, shape: ProposalShape | None = None) -> Proposals:
    return Proposals(SPACE, shape or ProposalShape(), GrowingBounds(SPACES), seed=seed)


def net(a: float, b: float, c: float) -> Candidate:
    return Candidate(family="nets", configuration={"a": a, "b": b, "c": c}, origin="test")


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    anchors=st.lists(st.tuples(*[st.floats(0.0, 1.0)] * 3), max_size=5),
    num_even=st.integers(1, 60),
    num_near=st.integers(1, 60),
)
def test_a_pool_holds_what_was_asked_for_within_each_familys_cube(
    seed: int, anchors: list[tuple[float, float, float]], num_even: int, num_near: int
) -> None:
    shape = ProposalShape(num_even=num_even, num_near=num_near, largest_step=2.0)
    pool = proposals(shape=shape).pool([net(*anchor) for anchor in anchors], np.random.default_rng(seed))
    assert set(pool) == {"nets", "trees"}
    assert pool["trees"].shape == (-(-num_even // 2), 1)
    near = len(anchors) * -(-num_near // len(anchors)) if anchors else 0
    assert pool["nets"].shape == (-(-num_even // 2) + near, 3)
    for points in pool.values():
        assert (points >= 0).all()
        assert (points <= 1).all()


@pytest.mark.parametrize("draw", ["spread", "random", "pool"])
def test_the_same_seed_draws_the_same_and_others_draw_others(draw: str) -> None:
    def drawn(seed: int) -> object:
        mine, rng = proposals(seed=seed), np.random.default_rng(seed)
        if draw == "spread":
            return [mine.spread(index) for index in range(10)]
        if draw == "random":
            return [mine.random(rng) for _ in range(10)]
        return {family: points.tolist() for family, points in mine.pool([net(0.1, 0.2, 0.3)], rng).items()}

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)


def test_drawing_from_one_generator_does_not_change_what_the_spread_holds() -> None:
    mine, undisturbed = proposals(), proposals()
    mine.random(np.random.default_rng(0))
    mine.pool([], np.random.default_rng(0))
    assert mine.spread(7) == undisturbed.spread(7)


def test_the_spread_takes_families_in_turn_and_covers_each_evenly() -> None:
    spread = [proposals().spread(index) for index in range(32)]
    assert [candidate.family for candidate in spread] == ["nets", "trees"] * 16
    firsts = np.array([candidate.configuration["a"] for candidate in spread if candidate.family == "nets"])
    # A Sobol sequence's first sixteen stand in sixteen different sixteenths.
    assert sorted(np.floor(firsts * 16).astype(int).tolist()) == list(range(16))


def test_the_spread_never_ends() -> None:
    mine = proposals()
    assert mine.spread(2 * 64).configuration == mine.spread(0).configuration


def test_changes_move_some_axes_and_leave_the_others() -> None:
    shape = ProposalShape(num_even=2, num_near=400, smallest_step=0.02, largest_step=0.05)
    pool = proposals(shape=shape).pool([net(0.5, 0.5, 0.5)], np.random.default_rng(0))
    moves = pool["nets"][1:] - 0.5
    assert np.mean(moves != 0) == pytest.approx(0.5, abs=0.06)
    assert np.abs(moves).max() < 6 * 0.05


def test_both_families_are_drawn_at_random() -> None:
    rng = np.random.default_rng(0)
    mine = proposals()
    families = [mine.random(rng).family for _ in range(200)]
    assert 70 < families.count("nets") < 130


def test_each_candidate_says_where_it_comes_from() -> None:
    assert proposals().spread(0).origin == "spread"
    assert proposals().random(np.random.default_rng(0)).origin == "random"
