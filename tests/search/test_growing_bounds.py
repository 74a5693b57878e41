"""Bounds give way where the best stand at them, up to their limits, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from mlcluster.search import Candidate
from mlcluster.search.growing_bounds import GrowingBounds
from mlcluster.spec import ChoiceDomain, FloatDomain, IntDomain, SearchSpace

SPACE: SearchSpace = {
    "rate": FloatDomain(low=0.01, high=0.1, default=0.03, log=True, least=0.001, most=0.15),
    "depth": IntDomain(low=2, high=11, default=4, most=100),
    "kind": ChoiceDomain(options=("a", "b"), default="a"),
}


def bounds() -> GrowingBounds:
    return GrowingBounds({"net": SPACE})


def observe(
    growing: GrowingBounds, points: list[tuple[float, ...]], losses: list[float], *, rung: int = 1
) -> list[str]:
    candidate = Candidate(family="net", configuration={}, origin="test")
    told = [
        growing.observe(candidate, np.array(point), rung=rung, loss=loss)
        for point, loss in zip(points, losses, strict=True)
    ]
    return [words for words in told if words]


MIDDLE = (0.5, 0.5, 0.25)


def test_the_bound_where_the_best_three_stand_moves_by_a_quarter_of_the_width() -> None:
    growing = bounds()
    told = observe(growing, [MIDDLE, MIDDLE, (0.5, 0.95, 0.25), (0.5, 1.0, 0.25), (0.5, 0.92, 0.25)], [9, 8, 3, 1, 2])
    lows, highs = growing.of("net")
    assert highs.tolist() == [1.0, 1.25, 1.0]
    assert lows.tolist() == [0.0, 0.0, 0.0]
    assert told == ["net.depth may now go up to 14, for the best 3 stand at its bound"]


def test_it_moves_again_only_once_the_best_stand_at_the_new_bound() -> None:
    growing = bounds()
    observe(growing, [(0.5, 1.0, 0.25)] * 5, [5, 4, 3, 2, 1])
    observe(growing, [(0.5, 1.0, 0.25)] * 5, [0.5, 0.4, 0.3, 0.2, 0.1])
    assert growing.of("net")[1][1] == 1.25
    observe(growing, [(0.5, 1.2, 0.25)] * 3, [0.03, 0.02, 0.01])
    assert growing.of("net")[1][1] == 1.5


def test_nothing_grows_beyond_its_limits_nor_where_it_is_pinned() -> None:
    growing = bounds()
    for loss in range(60, 0, -1):
        observe(growing, [(float(growing.of("net")[1][0]), 0.0, 1.0)], [float(loss)])
    lows, highs = growing.of("net")
    assert SPACE["rate"].at(float(highs[0])) == pytest.approx(0.15)
    assert lows.tolist() == [0.0, 0.0, 0.0], "depth is pinned at its low end"
    assert highs[2] == 1.0, "options do not grow"


@pytest.mark.parametrize(
    ("points", "rung"),
    [
        ([(0.5, 1.0, 0.25)] * 5, 0),
        ([(0.5, 1.0, 0.25)] * 4, 1),
        ([(0.5, 1.0, 0.25)] * 4 + [MIDDLE], 1),
        ([MIDDLE] * 8, 2),
    ],
    ids=["only at the lowest rung", "too few", "one of the best three is elsewhere", "in the middle"],
)
def test_weak_evidence_moves_nothing(points: list[tuple[float, ...]], rung: int) -> None:
    growing = bounds()
    assert observe(growing, points, [float(len(points) - place) for place in range(len(points))], rung=rung) == []
    assert growing.of("net")[1].tolist() == [1.0, 1.0, 1.0]


def test_what_is_seen_at_a_lower_rung_does_not_count_once_enough_came_farther() -> None:
    growing = bounds()
    observe(growing, [MIDDLE] * 5, [5, 4, 3, 2, 1], rung=2)
    assert observe(growing, [(0.5, 1.0, 0.25)] * 8, [8, 7, 6, 5, 4, 3, 2, 1], rung=1) == []
