"""A bound that a single point exceeds would certify what is not so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verify_models import distance_net, points_inside, random_boxes, random_net

from mlcluster.verify.bounds import margin_bounds, two_scored

WIDTHS = [[3, 2], [5, 1], [4, 8, 2], [6, 10, 10, 3], [3, 12, 8, 6, 1]]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), widths=st.sampled_from(WIDTHS), eps=st.sampled_from([0.0, 0.01, 0.3, 3.0]))
def test_no_point_of_a_box_has_a_margin_below_its_bound(seed: int, widths: list[int], eps: float) -> None:
    rng = np.random.default_rng(seed)
    net, boxes = two_scored(random_net(rng, widths)), random_boxes(rng, 2, widths[0], eps)
    classes = net.raw_scores(boxes.center).argmax(axis=1)
    bounds = margin_bounds(net, classes, boxes.lower, boxes.upper)
    for row, own in enumerate(classes):
        scores = net.raw_scores(points_inside(rng, boxes, row, 10_000))
        margins = scores[:, [own]] - scores
        margins[:, own] = np.inf
        assert (margins.min(axis=0) >= bounds.lower[row]).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_bound_of_a_linear_model_is_its_minimum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net, boxes = random_net(rng, [6, 3]), random_boxes(rng, 4, 6, 0.5)
    classes = net.raw_scores(boxes.center).argmax(axis=1)
    bounds = margin_bounds(net, classes, boxes.lower, boxes.upper)
    weight, bias = net.layers[0].weight.astype(np.float64), net.layers[0].bias.astype(np.float64)
    for row, own in enumerate(classes):
        for other in set(range(3)) - {own}:
            slope = weight[:, own] - weight[:, other]
            corner = np.where(slope > 0, boxes.lower[row], boxes.upper[row])
            assert bounds.lower[row, other] == pytest.approx(corner @ slope + bias[own] - bias[other], abs=1e-4)


def test_a_known_net_has_its_known_bound() -> None:
    # |x| + |y| - 1 over [1, 2] x [1, 3] is at least 1: all ReLUs have a fixed sign there, so CROWN is exact.
    net = two_scored(distance_net())
    bounds = margin_bounds(net, np.array([1]), np.array([[1.0, 1.0]]), np.array([[2.0, 3.0]]))
    assert bounds.worst == pytest.approx([1.0], abs=1e-4)


def test_bounds_do_not_depend_on_which_boxes_are_bounded_together() -> None:
    rng = np.random.default_rng(5)
    net, boxes = random_net(rng, [6, 16, 16, 3]), random_boxes(rng, 20, 6, 0.2)
    classes = net.raw_scores(boxes.center).argmax(axis=1)
    together = margin_bounds(net, classes, boxes.lower, boxes.upper).lower
    for row in range(20):
        alone = margin_bounds(net, classes[[row]], boxes.lower[[row]], boxes.upper[[row]]).lower[0]
        # CROWN bounds a unit that is open in any box of a chunk; alone, intervals may have to do.
        assert (np.sign(alone) == np.sign(together[row])).all() or np.allclose(alone, together[row], atol=0.2)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_smaller_box_never_has_a_much_lower_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net, boxes = random_net(rng, [4, 8, 2]), random_boxes(rng, 3, 4, 0.4)
    classes = net.raw_scores(boxes.center).argmax(axis=1)
    whole = margin_bounds(net, classes, boxes.lower, boxes.upper).worst
    points = margin_bounds(net, classes, boxes.center, boxes.center).worst
    assert (points >= whole - 1e-9).all()
