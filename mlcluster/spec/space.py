"""Search spaces: which hyperparameters there are, and between which bounds.

`train/` declares them, `search/` draws from them; the two do not know each other.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

Value = int | float | str
Number = TypeVar("Number", int, float)
Configuration = Mapping[str, Value]
"""One point of a search space: hyperparameter name -> value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FloatDomain:
    """Real numbers between two bounds, both included; `log` draws their logarithm evenly.

    `least` and `most` say how far a search may widen it where its best trials stand at a bound; None pins that bound.
    """

    low: float
    high: float
    default: float
    log: bool = False
    least: float | None = None
    most: float | None = None

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest value that it may ever give."""
        return (self.low if self.least is None else self.least, self.high if self.most is None else self.most)

    @property
    def reach(self) -> tuple[float, float]:
        """The units of `limits`: (0, 1) where both bounds are pinned."""
        least, most = self.limits
        return min(0.0, self._share(least)), max(1.0, self._share(most))

    def at(self, unit: float) -> float:
        """The value at `unit` of the way from low to high; beyond [0, 1] where it may be widened, else clipped."""
        unit = _clipped(unit, self.reach)
        bounds = _logs(self.low, self.high) if self.log else (self.low, self.high)
        value = _between(*bounds, unit)
        return _clipped(math.exp(value) if self.log else value, self.limits)

    def unit(self, value: float) -> float:
        """How far `value` is on the way from low to high: the inverse of `at`."""
        return _clipped(self._share(value), self.reach)

    def _share(self, value: float) -> float:
        return _share(*_logs(self.low, self.high), math.log(value)) if self.log else _share(self.low, self.high, value)


@dataclass(frozen=True, kw_only=True, slots=True)
class IntDomain:
    """Whole numbers between two bounds, both included; `log` draws their logarithm evenly. See `FloatDomain`."""

    low: int
    high: int
    default: int
    log: bool = False
    least: int | None = None
    most: int | None = None

    @property
    def limits(self) -> tuple[int, int]:
        """The lowest and the highest value that it may ever give."""
        return (self.low if self.least is None else self.least, self.high if self.most is None else self.most)

    @property
    def reach(self) -> tuple[float, float]:
        """The units of `limits`: (0, 1) where both bounds are pinned."""
        least, most = self.limits
        return min(0.0, self._share(least - 0.5)), max(1.0, self._share(most + 0.5))

    def at(self, unit: float) -> int:
        """The value at `unit` of the way; each whole number owns an equal stretch (of its logarithm)."""
        unit, low, high = _clipped(unit, self.reach), self.low - 0.5, self.high + 0.5
        value = math.exp(_between(*_logs(low, high), unit)) if self.log else _between(low, high, unit)
        return _clipped(round(value), self.limits)

    def unit(self, value: float) -> float:
        """Where `value` stands within the stretch that it owns; `at` gives it back."""
        return _clipped(self._share(value), self.reach)

    def _share(self, value: float) -> float:
        low, high = self.low - 0.5, self.high + 0.5
        return _share(*_logs(low, high), math.log(value)) if self.log else _share(low, high, value)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChoiceDomain:
    """One of a few named or numbered options, without an order."""

    options: tuple[Value, ...]
    default: Value

    @property
    def reach(self) -> tuple[float, float]:
        """Options do not grow."""
        return 0.0, 1.0

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


def space_fingerprint(space: SearchSpace) -> str:
    """Twelve hex digits of the hyperparameters and their bounds, in any order."""
    return hashlib.sha256(repr(sorted(space.items())).encode()).hexdigest()[:12]


def holds(space: SearchSpace, configuration: Configuration) -> bool:
    """Whether a configuration has the hyperparameters of a space, each within what its domain may ever give."""
    return configuration.keys() == space.keys() and all(
        _holds(domain, configuration[name]) for name, domain in space.items()
    )


def _holds(domain: Domain, value: Value) -> bool:
    if isinstance(domain, ChoiceDomain):
        return value in domain.options
    is_number = isinstance(value, int if isinstance(domain, IntDomain) else int | float)
    return is_number and not isinstance(value, bool) and domain.limits[0] <= value <= domain.limits[1]  # type: ignore[operator]


def _between(low: float, high: float, unit: float) -> float:
    return low + (high - low) * unit


def _share(low: float, high: float, between: float) -> float:
    # A domain of one value has no way to go.
    return (between - low) / (high - low) if high > low else 0.0


def _logs(low: float, high: float) -> tuple[float, float]:
    return math.log(low), math.log(high)


def _clipped(value: Number, limits: tuple[Number, Number]) -> Number:
    return min(max(value, limits[0]), limits[1])
