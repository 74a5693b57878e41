"""Search spaces: which hyperparameters there are, and between which bounds.

`train/` declares them, `search/` draws from them; the two do not know each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

Value = int | float | str
Configuration = Mapping[str, Value]
"""One point of a search space: hyperparameter name -> value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FloatDomain:
    """Real numbers between two bounds, both included; `log` draws their logarithm evenly."""

    low: float
    high: float
    default: float
    log: bool = False

    def at(self, unit: float) -> float:
        """The value at `unit` in [0, 1] of the way from low to high."""
        if self.log:
            return float(
                min(max(math.exp(_between(math.log(self.low), math.log(self.high), unit)), self.low), self.high)
            )
        return _between(self.low, self.high, unit)

    def unit(self, value: float) -> float:
        """How far `value` is on the way from low to high, in [0, 1]: the inverse of `at`."""
        if self.log:
            return _share(math.log(self.low), math.log(self.high), math.log(value))
        return _share(self.low, self.high, value)


@dataclass(frozen=True, kw_only=True, slots=True)
class IntDomain:
    """Whole numbers between two bounds, both included; `log` draws their logarithm evenly."""

    low: int
    high: int
    default: int
    log: bool = False

    def at(self, unit: float) -> int:
        """The value at `unit` in [0, 1] of the way; each whole number owns an equal stretch (of its logarithm)."""
        low, high = self.low - 0.5, self.high + 0.5
        value = math.exp(_between(math.log(low), math.log(high), unit)) if self.log else _between(low, high, unit)
        return min(max(round(value), self.low), self.high)

    def unit(self, value: float) -> float:
        """Where `value` stands within the stretch that it owns; `at` gives it back."""
        low, high = self.low - 0.5, self.high + 0.5
        return _share(math.log(low), math.log(high), math.log(value)) if self.log else _share(low, high, value)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChoiceDomain:
    """One of a few named or numbered options, without an order."""

    options: tuple[Value, ...]
    default: Value

    def at(self, unit: float) -> Value:
        """The option at `unit` in [0, 1]."""
        return self.options[min(int(unit * len(self.options)), len(self.options) - 1)]

    def unit(self, value: Value) -> float:
        """The middle of the stretch that the option owns; `at` gives it back."""
        return (self.options.index(value) + 0.5) / len(self.options)


Domain = FloatDomain | IntDomain | ChoiceDomain
SearchSpace = Mapping[str, Domain]


def default_configuration(space: SearchSpace) -> dict[str, Value]:
    """The configuration that a person who knows the family would try first."""
    return {name: domain.default for name, domain in space.items()}


def _between(low: float, high: float, unit: float) -> float:
    return low + (high - low) * unit


def _share(low: float, high: float, between: float) -> float:
    # A domain of one value has no way to go.
    return min(max((between - low) / (high - low), 0.0), 1.0) if high > low else 0.0
