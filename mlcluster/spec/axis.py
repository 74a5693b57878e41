"""`tune.space`: one's own bounds for a hyperparameter, instead of those that its family declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from pydantic import model_validator

from mlcluster.errors import SpecError
from mlcluster.spec.base import Section
from mlcluster.spec.data import check_ends, parse_range
from mlcluster.spec.space import ChoiceDomain, Domain, IntDomain, SearchSpace, Value


class AxisSpec(Section):
    """What one hyperparameter may be. Short forms: `16..64`, `[16, 32, 64]`, or the one value that it has."""

    min: float | None = None
    max: float | None = None
    one_of: tuple[Value, ...] | None = None
    pinned: bool = True
    """Whether the bounds hold; else the search may widen them, as it may those that a family declares."""

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:
        if isinstance(value, list):
            return {"one_of": value}
        if isinstance(value, str) and ".." in value:
            return parse_range(value)
        return value if isinstance(value, Mapping) else {"one_of": [value]}

    @model_validator(mode="after")
    def _check(self) -> AxisSpec:
        check_ends(self.min, self.max)
        if self.one_of is not None and (not self.one_of or self.min is not None or self.max is not None):
            raise ValueError("needs either a range, like 16..64, or values, like [16, 32]; give one of the two")
        return self


def narrowed(family: str, space: SearchSpace, axes: Mapping[str, AxisSpec]) -> SearchSpace:
    """The space of a family with these hyperparameters bounded as asked.

    Raises:
        SpecError: one of them is none of the family's, or what is asked cannot be trained.
    """
    for name in axes.keys() - space.keys():
        close = get_close_matches(name, space, n=1)
        known = f"did you mean {close[0]}" if close else f"use one of {', '.join(space)}"
        raise SpecError(f"tune.space.{family}.{name} is no hyperparameter of it; {known}.")
    return {
        name: _narrowed(f"tune.space.{family}.{name}", domain, axes[name]) if name in axes else domain
        for name, domain in space.items()
    }


def _narrowed(key: str, domain: Domain, axis: AxisSpec) -> Domain:
    if axis.one_of is not None:
        values = tuple(_checked(key, domain, value) for value in axis.one_of)
        return ChoiceDomain(options=values, default=domain.default if domain.default in values else values[0])
    if isinstance(domain, ChoiceDomain):
        options = ", ".join(str(option) for option in domain.options)
        raise SpecError(f"{key} = {_range_text(axis)} is a range of what has only options; use [{options}].")
    low = domain.low if axis.min is None else _checked(key, domain, axis.min)
    high = domain.high if axis.max is None else _checked(key, domain, axis.max)
    if low > high:
        raise SpecError(f"{key} = {_range_text(axis)} is empty, for it goes from {low:g} to {high:g}; give both ends.")
    limits = {"least": None, "most": None} if axis.pinned else {}
    return replace(domain, low=low, high=high, default=min(max(domain.default, low), high), **limits)  # type: ignore[arg-type]


def _checked(key: str, domain: Domain, value: Value) -> Any:
    """The value, as its domain has it."""
    if isinstance(domain, ChoiceDomain):
        if value not in domain.options:
            options = ", ".join(str(option) for option in domain.options)
            raise SpecError(f"{key} = {value} is none of its options; use some of {options}.")
        return value
    least, most = domain.limits
    if isinstance(value, str) or not least <= value <= most:
        raise SpecError(f"{key} = {value} cannot be trained; stay within {least:g}..{most:g}.")
    if isinstance(domain, IntDomain) and value != int(value):
        raise SpecError(f"{key} = {value:g} is no whole number; use one.")
    return int(value) if isinstance(domain, IntDomain) else float(value)


def _range_text(axis: AxisSpec) -> str:
    return "..".join("" if end is None else f"{end:g}" for end in (axis.min, axis.max))
