"""Bounds of one's own: what they make of a family's space, and what is said where they cannot hold."""

from __future__ import annotations

import pytest

from mlcluster.errors import SpecError
from mlcluster.spec import AxisSpec, ChoiceDomain, FloatDomain, IntDomain, SearchSpace, narrowed

SPACE: SearchSpace = {
    "width": IntDomain(low=16, high=256, default=64, log=True, least=4, most=1024),
    "rate": FloatDomain(low=1e-3, high=1e-1, default=1e-2, log=True, least=1e-6, most=1.0),
    "share": ChoiceDomain(options=(0.25, 0.5, 1.0), default=0.5),
}


def axis(value: object) -> AxisSpec:
    return AxisSpec.model_validate(value)


def test_a_range_replaces_the_bounds_and_pins_them() -> None:
    width = narrowed("mlp", SPACE, {"width": axis("100..512")})["width"]
    assert isinstance(width, IntDomain)
    assert (width.low, width.high, width.default, width.log) == (100, 512, 100, True)
    assert width.limits == (100, 512)


def test_a_range_may_be_left_open_and_unpinned() -> None:
    given = axis({"max": 0.05, "pinned": False})
    rate = narrowed("mlp", SPACE, {"rate": given})["rate"]
    assert isinstance(rate, FloatDomain)
    assert (rate.low, rate.high, rate.default, rate.limits) == (1e-3, 0.05, 1e-2, (1e-6, 1.0))


@pytest.mark.parametrize(("given", "options"), [([32, 64], (32, 64)), (48, (48,)), ({"one_of": [8]}, (8,))])
def test_values_leave_only_themselves(given: object, options: tuple[int, ...]) -> None:
    width = narrowed("mlp", SPACE, {"width": axis(given)})["width"]
    assert isinstance(width, ChoiceDomain)
    assert width.options == options
    assert width.default == (64 if 64 in options else options[0])
    assert width.at(0.99) == options[-1]


def test_what_is_not_named_stays() -> None:
    assert narrowed("mlp", SPACE, {}) == SPACE
    assert narrowed("mlp", SPACE, {"width": axis(32)})["rate"] is SPACE["rate"]


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("widht", 32, r"tune\.space\.mlp\.widht is no hyperparameter of it; did you mean width\."),
        ("colour", 32, r"colour is no hyperparameter of it; use one of width, rate, share\."),
        ("width", "16..4096", r"tune\.space\.mlp\.width = 4096\.0 cannot be trained; stay within 4\.\.1024\."),
        ("width", "wide", r"width = wide cannot be trained"),
        ("width", 20.5, r"width = 20\.5 is no whole number; use one\."),
        ("width", "300..", r"width = 300\.\. is empty, for it goes from 300 to 256; give both ends\."),
        ("share", "0.3..0.6", r"share = 0\.3\.\.0\.6 is a range of what has only options; use \[0\.25, 0\.5, 1\.0\]\."),
        ("share", 0.3, r"share = 0\.3 is none of its options; use some of 0\.25, 0\.5, 1\.0\."),
    ],
)
def test_what_cannot_hold_is_refused_with_a_way_out(name: str, given: object, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        narrowed("mlp", SPACE, {name: axis(given)})


@pytest.mark.parametrize(
    ("given", "message"),
    [("5..1", "above its high end"), ([], "needs either"), ({"min": 1, "one_of": [1]}, "needs either")],
)
def test_a_range_that_is_none_is_refused(given: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        axis(given)
