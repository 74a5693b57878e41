"""`models:`, `tune:`, `workers:` and `prices:`: what to search for, and how much it may spend."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, PositiveFloat

from mlcluster.spec.axis import AxisSpec
from mlcluster.spec.base import Section

Family = Literal["linear", "tree", "forest", "boosting", "mlp", "conv"]
FAMILIES: tuple[Family, ...] = get_args(Family)
"""From the simplest to the most complex: the order in which `prefer_simple_within` prefers."""
DEFAULT_FAMILIES: tuple[Family, ...] = tuple(family for family in FAMILIES if family != "conv")
"""Those that learn from any table; conv, which takes images only, is asked for by name."""

Workers = Literal["auto", "cpu", "gpu", "both"]
"""Which kinds of worker a run leases; each trial then runs on the one where its predicted dollars are fewest.

`both` leases every GPU, each with a CPU, and the CPUs that are left; `auto` does so where there is a GPU and some
configuration is cheaper on it, else it is `cpu`.
"""
Device = Literal["cpu", "gpu"]
"""What one worker trains on."""
Metric = Literal["roc_auc", "accuracy", "balanced_accuracy", "f1", "log_loss", "r2", "rmse", "mae"]


class BudgetSpec(Section):
    """A hard cap: nothing starts whose worst case does not fit."""

    usd: PositiveFloat = 0.20
    """Over everything that one run spends: data, search, verification and deployment."""
    minutes: PositiveFloat = 10.0
    """Over the search."""


class LimitsSpec(Section):
    """What the served model may need at most."""

    p99_ms: PositiveFloat | None = None
    model_mb: PositiveFloat | None = None


class WorthSpec(Section):
    """When more searching is not worth its dollars."""

    usd_per_point: PositiveFloat
    """What 0.01 of the metric is worth, at most: the search ends once nothing is expected to come cheaper."""


Search = Literal["promise", "halving"]
WarmStart = Literal["auto", "portfolio", "history", "none"]
"""Which configurations are tried first: those that did well in earlier studies, on other data too.

`portfolio` ships with mlcluster; `history` is read from the runs in the tracking store; `auto` takes both in turn.
"""


class TuneSpec(Section):
    """What to search for, and how much it may spend."""

    metric: Metric | None = None
    """Left out: roc_auc for two classes, log_loss for more, r2 for regression."""
    budget: BudgetSpec = BudgetSpec()
    prefer_simple_within: Annotated[float, Field(ge=0)] = 0.0
    """The simplest family whose score is this close to the best one wins."""
    limits: LimitsSpec = LimitsSpec()
    worth: WorthSpec | None = None
    """Left out: the search uses its budget."""
    search: Search = "promise"
    """`promise` asks a model of curves and costs which trial to pay for next; `halving` goes by rank at each rung."""
    space: dict[Family, dict[str, AxisSpec]] = Field(default_factory=dict)
    """Bounds of one's own, by family and hyperparameter. Those that a family declares are widened by `promise`, where
    its best trials stand at one; these are not, unless they say `pinned: false`."""
    warm_start: WarmStart = "auto"


class PricesSpec(Section):
    """$ per hour of a worker: on this machine, or on a cluster, by its node types."""

    cpu_hour: PositiveFloat = 0.05
    gpu_hour: PositiveFloat = 2.00
    """Without the CPU that drives it."""
    cluster: Annotated[str, Field(min_length=1)] | None = None
    """A cluster file, from the project's folder: a worker costs its share of the cheapest node type there that can hold
    it, by the price list beside that file; the two prices above count for kinds of worker that no type holds."""
