"""The policies by name. A peer's library is imported when the peer is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from mlcluster.errors import SpecError
from mlcluster.tune import AskTell
from search_bench.task import PolicyTask

REFERENCE = "asha-promotion"
OURS = "ours"
OURS_WARM = "ours-warm"

PolicyFactory = Callable[[PolicyTask], AskTell]

_POLICIES = {
    "random": ("halving", "RandomSearch"),
    "asha-promotion": ("halving", "AshaPromotion"),
    "hyperband": ("halving", "Hyperband"),
    "asha-stopping": ("ray_peers", "asha_stopping"),
    "ray-default": ("ray_peers", "ray_default"),
    "optuna-hyperband": ("optuna_peers", "optuna_hyperband"),
    "optuna-default": ("optuna_peers", "optuna_default"),
    OURS: ("own", "ours"),
    OURS_WARM: ("own", "ours"),
}
POLICY_NAMES = tuple(_POLICIES)


def policy_factory(name: str) -> PolicyFactory:
    """What makes the policy of that name for a task.

    Raises:
        SpecError: there is none of that name, or its library is not installed.
    """
    if name not in _POLICIES:
        raise SpecError(f"--policies = {name!r} is not known; take some of {', '.join(POLICY_NAMES)}.")
    module, factory = _POLICIES[name]
    try:
        made: PolicyFactory = getattr(importlib.import_module(f"search_bench.{module}"), factory)
    except ImportError as error:
        raise SpecError(f"--policies = {name!r} needs a library that is missing: {error}; install it.") from error
    return made
