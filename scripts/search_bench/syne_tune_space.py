"""A search space in Syne Tune's words, which all its versions share."""

from __future__ import annotations

from typing import Any

from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform

from mlcluster.spec import ChoiceDomain, Domain, FloatDomain, SearchSpace


def syne_tune_space(space: SearchSpace) -> dict[str, Any]:
    """Name -> domain."""
    return {name: _domain(domain) for name, domain in space.items()}


def _domain(domain: Domain) -> Any:
    if isinstance(domain, ChoiceDomain):
        return choice(list(domain.options))
    if isinstance(domain, FloatDomain):
        return (loguniform if domain.log else uniform)(domain.low, domain.high)
    return (lograndint if domain.log else randint)(domain.low, domain.high)
