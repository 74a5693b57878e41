"""Proved means that no search breaks it; refuted means that the example does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verify_models import classes_of, distance_net, points_inside, random_boxes, random_net

from mlcluster.verify import Boxes, dense_proof
from mlcluster.verify.attack import attack
from mlcluster.verify.bounds import margin_bounds, two_scored
from mlcluster.verify.dense_proof import prove_dense

WIDTHS = [[3, 2], [5, 1], [4, 8, 2], [6, 10, 10, 3], [3, 12, 8, 6, 1]]


def box(center: tuple[float, ...], eps: float) -> Boxes:
    middle = np.array([center], dtype=np.float32)
    return Boxes(center=middle, lower=middle - np.float32(eps), upper=middle + np.float32(eps))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), widths=st.sampled_from(WIDTHS), eps=st.sampled_from([0.01, 0.1, 0.5, 2.0]))
def test_nothing_breaks_a_proved_row_and_every_refuting_example_holds(seed: int, widths: list[int], eps: float) -> None:
    rng = np.random.default_rng(seed)
    net, boxes = random_net(rng, widths), random_boxes(rng, 4, widths[0], eps, num_fixed=1)
    classes = classes_of(net.raw_scores(boxes.center))
    for row, proof in enumerate(prove_dense(net, boxes, np.random.default_rng(0))):
        if proof.status == "proved":
            found = classes_of(net.raw_scores(points_inside(rng, boxes, row, 10_000)))
            assert (found == classes[row]).all()
            again = boxes.take(np.array([row]))
            assert np.isnan(attack(two_scored(net), classes[[row]], again, rng)).all()
        elif proof.status == "refuted":
            assert ((boxes.lower[row] <= proof.example) & (proof.example <= boxes.upper[row])).all()
            assert classes_of(net.raw_scores(proof.example[None]))[0] != classes[row]


@pytest.mark.parametrize(
    ("center", "eps", "status"),
    [((2.0, 0.0), 0.49, "proved"), ((2.0, 0.0), 1.01, "refuted"), ((0.1, 0.1), 0.39, "proved"),
     ((0.1, 0.1), 0.41, "refuted"), ((0.0, 0.0), 0.49, "proved")],
)  # fmt: skip
def test_a_net_that_is_known_by_hand_is_judged_rightly(center: tuple[float, ...], eps: float, status: str) -> None:
    # |x| + |y| > 1 is class 1: from (2, 0) the border is 1 away along x, from (0.1, 0.1) it is 0.4 along both.
    assert prove_dense(distance_net(), box(center, eps), np.random.default_rng(0))[0].status == status


def test_dividing_the_box_settles_what_the_bound_alone_does_not() -> None:
    # |x| + |y| is at least 1.05 there, but a line below each ReLU leaves -x for |x| where x is negative.
    net, around = distance_net(), box((0.1, 2.0), 0.95)
    assert margin_bounds(two_scored(net), np.array([1]), around.lower, around.upper).worst[0] < 0
    assert prove_dense(net, around, np.random.default_rng(0))[0].status == "proved"


def test_a_linear_row_is_proved_up_to_its_distance_from_the_border() -> None:
    rng = np.random.default_rng(1)
    net = random_net(rng, [4, 1])
    center = rng.normal(size=4)
    weight, bias = net.layers[0].weight[:, 0].astype(np.float64), float(net.layers[0].bias[0])
    distance = abs(center.astype(np.float32) @ weight + bias) / np.abs(weight).sum()
    for share, status in ((0.999, "proved"), (1.001, "refuted")):
        assert prove_dense(net, box(tuple(center), distance * share), rng)[0].status == status


def test_a_row_on_the_border_itself_is_not_proved() -> None:
    assert prove_dense(distance_net(), box((1.0, 0.0), 0.0), np.random.default_rng(0))[0].status == "unknown"


def test_verdicts_repeat_under_a_seed() -> None:
    rng = np.random.default_rng(2)
    net, boxes = random_net(rng, [8, 32, 32, 2]), random_boxes(rng, 30, 8, 0.2)
    first, second = (prove_dense(net, boxes, np.random.default_rng(7)) for _ in range(2))
    assert [proof.status for proof in first] == [proof.status for proof in second]
    assert {proof.status for proof in first} >= {"proved", "refuted"}


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_net_with_broken_weights_proves_nothing(broken: float) -> None:
    net = random_net(np.random.default_rng(0), [3, 6, 2])
    net.layers[0].weight[0, 0] = broken
    boxes = random_boxes(np.random.default_rng(1), 10, 3, 0.1)
    with np.errstate(invalid="ignore"):
        statuses = {proof.status for proof in prove_dense(net, boxes, np.random.default_rng(0))}
    assert "proved" not in statuses


def test_effort_that_is_used_up_leaves_rows_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_proof, "_MAX_MULTIPLICATIONS", 0)
    assert prove_dense(distance_net(), box((0.1, 2.0), 0.95), np.random.default_rng(0))[0].status == "unknown"
