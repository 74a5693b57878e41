"""One cube for all families: what goes in comes back out, and families do not mix."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcluster.search import Candidate
from mlcluster.search.joint_space import JointSpace
from mlcluster.spec import ChoiceDomain, FloatDomain, IntDomain, SearchSpace

NETS: SearchSpace = {
    "rate": FloatDomain(low=1e-5, high=1.0, default=1e-3, log=True),
    "dropout": FloatDomain(low=0.0, high=0.5, default=0.1),
    "width": IntDomain(low=4, high=512, default=64, log=True),
    "activation": ChoiceDomain(options=("relu", "tanh", "gelu"), default="relu"),
}
TREES: SearchSpace = {"depth": IntDomain(low=1, high=12, default=6), "rate": FloatDomain(low=0.01, high=1, default=0.1)}
BOTH = JointSpace({"nets": NETS, "trees": TREES})
units = st.floats(0.0, 1.0)


@given(point=st.lists(units, min_size=4, max_size=4))
def test_a_configuration_comes_back_from_its_point(point: list[float]) -> None:
    configuration = BOTH.configuration("nets", point)
    again = BOTH.configuration("nets", BOTH.own_point("nets", configuration))
    assert again["width"] == configuration["width"]
    assert again["activation"] == configuration["activation"]
    for name in ("rate", "dropout"):
        assert math.isclose(again[name], configuration[name], rel_tol=1e-9, abs_tol=1e-12)


@given(point=st.lists(units, min_size=4, max_size=4))
def test_every_point_is_a_configuration_within_the_bounds_and_stands_in_the_cube(point: list[float]) -> None:
    configuration = BOTH.configuration("nets", point)
    assert 1e-5 <= configuration["rate"] <= 1.0
    assert 0.0 <= configuration["dropout"] <= 0.5
    assert configuration["width"] in range(4, 513)
    assert configuration["activation"] in ("relu", "tanh", "gelu")
    joint = BOTH.point(Candidate(family="nets", configuration=configuration, origin="test"))
    assert joint.shape == (BOTH.num_axes,)
    assert (joint >= 0).all()
    assert (joint <= 1).all()


@given(
    left=st.lists(units, min_size=2, max_size=2),
    right=st.lists(units, min_size=2, max_size=2),
    net=st.lists(units, min_size=4, max_size=4),
)
def test_distances_within_a_family_are_those_of_its_own_cube_and_other_families_are_further(
    left: list[float], right: list[float], net: list[float]
) -> None:
    one, other = np.array([left]), np.array([right])
    joint = BOTH.embed("trees", one) - BOTH.embed("trees", other)
    assert np.linalg.norm(joint) == pytest.approx(np.linalg.norm(one - other))
    across = BOTH.embed("trees", one) - BOTH.embed("nets", np.array([net]))
    assert np.linalg.norm(across) >= math.sqrt(2) * (1 - 1e-12)


def test_a_family_owns_its_axes_and_stands_in_the_middle_of_the_others() -> None:
    assert BOTH.num_axes == 4 + 2 + 2
    assert (BOTH.own_axes("nets"), BOTH.own_axes("trees")) == (slice(0, 4), slice(4, 6))
    assert BOTH.embed("nets", np.array([[0.1, 0.2, 0.3, 0.4]])).tolist() == [[0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 1, 0]]
    assert BOTH.embed("trees", np.array([[0.1, 0.2]])).tolist() == [[0.5, 0.5, 0.5, 0.5, 0.1, 0.2, 0, 1]]


def test_with_one_family_the_cube_is_its_own() -> None:
    alone = JointSpace({"trees": TREES})
    assert alone.num_axes == 2
    assert alone.embed("trees", np.array([[0.1, 0.2]])).tolist() == [[0.1, 0.2]]


def test_the_most_own_axes_are_those_of_the_widest_family() -> None:
    assert BOTH.most_own_axes == 4
    assert JointSpace({"trees": TREES}).most_own_axes == 2


def test_the_same_name_in_two_families_is_two_axes() -> None:
    net = Candidate(family="nets", configuration=BOTH.configuration("nets", [0.9] * 4), origin="test")
    tree = Candidate(family="trees", configuration=BOTH.configuration("trees", [0.5, 0.9]), origin="test")
    assert BOTH.point(net)[0] == pytest.approx(0.9)
    assert BOTH.point(tree)[0] == 0.5
    assert BOTH.point(tree)[5] == pytest.approx(0.9)


def test_of_no_points_no_points_are_embedded() -> None:
    assert BOTH.embed("trees", np.empty((0, 2))).shape == (0, 8)


@pytest.mark.parametrize("length", [0, 1, 3])
def test_a_point_of_another_cube_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="zip"):
        BOTH.configuration("trees", [0.5] * length)
