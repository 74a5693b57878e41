"""Domains map the unit interval to values and back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcluster.spec import ChoiceDomain, FloatDomain, IntDomain

units = st.floats(0.0, 1.0)


@st.composite
def float_domains(draw: st.DrawFn) -> FloatDomain:
    log = draw(st.booleans())
    low, high = sorted(draw(st.tuples(*[st.floats(1e-9 if log else -1e6, 1e6)] * 2)))
    return FloatDomain(low=low, high=high, default=low, log=log)


@st.composite
def int_domains(draw: st.DrawFn) -> IntDomain:
    log = draw(st.booleans())
    low, high = sorted(draw(st.tuples(*[st.integers(1 if log else -1000, 100_000)] * 2)))
    return IntDomain(low=low, high=high, default=low, log=log)


@given(domain=float_domains(), unit=units)
def test_a_float_goes_to_its_unit_and_back(domain: FloatDomain, unit: float) -> None:
    value = domain.at(unit)
    back = domain.unit(value)
    assert 0.0 <= back <= 1.0
    spread = max(abs(domain.low), abs(domain.high))
    assert domain.at(back) == pytest.approx(value, rel=1e-9, abs=1e-12 * spread)


@given(domain=int_domains(), data=st.data())
def test_each_whole_number_goes_to_its_unit_and_back_exactly(domain: IntDomain, data: st.DataObject) -> None:
    value = data.draw(st.integers(domain.low, domain.high))
    assert 0.0 <= domain.unit(value) <= 1.0
    assert domain.at(domain.unit(value)) == value


@given(options=st.lists(st.integers() | st.text(max_size=3), min_size=1, max_size=12, unique=True), data=st.data())
def test_each_option_goes_to_its_unit_and_back_exactly(options: list[int | str], data: st.DataObject) -> None:
    domain = ChoiceDomain(options=tuple(options), default=options[0])
    option = data.draw(st.sampled_from(options))
    assert domain.at(domain.unit(option)) == option


def test_worked_units() -> None:
    assert FloatDomain(low=2, high=6, default=2).unit(3) == pytest.approx(0.25)
    assert FloatDomain(low=1e-4, high=1e-1, default=1e-3, log=True).unit(1e-2) == pytest.approx(2 / 3)
    assert IntDomain(low=1, high=4, default=1).unit(1) == pytest.approx(1 / 8)
    doubling = IntDomain(low=1, high=7, default=1, log=True)
    assert doubling.unit(2) == pytest.approx(math.log(4) / math.log(15))
    assert ChoiceDomain(options=("a", "b"), default="a").unit("b") == pytest.approx(0.75)


def test_a_domain_of_one_value_has_unit_zero() -> None:
    assert FloatDomain(low=3.0, high=3.0, default=3.0).unit(3.0) == 0.0
