"""The policies by name. A peer's library is imported when the peer is asked for."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator

from mlcluster.errors import SpecError
from mlcluster.tune import AskTell
from search_bench.task import PolicyTask

REFERENCE = "asha-promotion"
OURS = "ours"
OURS_WARM = "ours-warm"

PolicyFactory = Callable[[PolicyTask], AskTell]

_PARTS = (
    "no_curve_model", "one_cost", "even_growth", "no_cost_floor", "rungs_by_2", "high_first_rung", "no_early_stop",
    "no_guard", "no_discount", "no_even_draws",
)  # fmt: skip

_POLICIES = {
    "random": ("halving", "RandomSearch"),
    "asha-promotion": ("halving", "AshaPromotion"),
    "hyperband": ("halving", "Hyperband"),
    "asha-stopping": ("ray_peers", "asha_stopping"),
    "ray-default": ("ray_peers", "ray_default"),
    "optuna-hyperband": ("optuna_peers", "optuna_hyperband"),
    "optuna-default": ("optuna_peers", "optuna_default"),
    "syne-bohb": ("syne_tune_peers", "syne_bohb"),
    "syne-cqr": ("syne_tune_peers", "syne_cqr"),
    "syne-mobster": ("syne_tune_legacy_peers", "syne_mobster"),
    "syne-hypertune": ("syne_tune_legacy_peers", "syne_hypertune"),
    "flaml-cfo": ("flaml_peers", "flaml_cfo"),
    "flaml-blendsearch": ("flaml_peers", "flaml_blendsearch"),
    "dehb": ("dehb_peers", "Dehb"),
    OURS: ("own", "ours"),
    OURS_WARM: ("own", "ours"),
    **{f"{OURS}:{part.replace('_', '-')}": ("own_ablations", part) for part in _PARTS},
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
    with _naming_what_is_missing(name):
        made: PolicyFactory = getattr(importlib.import_module(f"search_bench.{module}"), factory)

    def make(task: PolicyTask) -> AskTell:
        # Syne Tune imports some of its searchers only now.
        with _naming_what_is_missing(name):
            return made(task)

    return make


@contextlib.contextmanager
def _naming_what_is_missing(name: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise SpecError(f"--policies = {name!r} needs what is not installed here: {error}; install it.") from error
