"""Configurations: random ones, the same for every policy of one seed, and those that other libraries propose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mlcluster.spec import ChoiceDomain, Domain, IntDomain, SearchSpace, Value


def random_configurations(space: SearchSpace, seed: int) -> Iterator[dict[str, Value]]:
    """Even draws from the space without end. Policies that share a seed see them in the same order."""
    rng = np.random.default_rng(seed)
    while True:
        units = rng.random(len(space)).tolist()
        yield {name: domain.at(unit) for (name, domain), unit in zip(space.items(), units, strict=True)}


def rung_epochs(max_epochs: int, *, reduction_factor: int) -> tuple[int, ...]:
    """1, eta, eta^2, ... below `max_epochs`, and `max_epochs` itself."""
    rungs = [1]
    while rungs[-1] * reduction_factor < max_epochs:
        rungs.append(rungs[-1] * reduction_factor)
    return (*rungs, max_epochs) if max_epochs > 1 else (1,)


def as_configuration(space: SearchSpace, raw: Mapping[str, Any]) -> dict[str, Value]:
    """What another library proposes, in plain numbers and within the bounds, whose last digit it may miss."""
    return {name: _plain(domain, raw[name]) for name, domain in space.items()}


def _plain(domain: Domain, value: Any) -> Value:
    if isinstance(domain, ChoiceDomain):
        return domain.options[domain.options.index(value)]
    within = min(max(value, domain.low), domain.high)
    return round(within) if isinstance(domain, IntDomain) else float(within)
