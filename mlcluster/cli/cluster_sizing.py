"""`cluster size`: how many nodes of a cluster file to ask for, stage by stage, by when and for how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcluster.cli.cluster_checking import read_priced
from mlcluster.cluster import (
    ClusterPlan,
    ElasticPlan,
    Goal,
    NodeOffer,
    PricedType,
    best_static_plan,
    halving_stages,
    plan_nodes,
)
from mlcluster.cluster.slots import slots_on
from mlcluster.errors import SpecError


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeQuestion:
    """A study by successive halving, and what is wanted of it."""

    num_trials: int
    trial_seconds: float
    """A whole training, on one slot."""
    goal: Goal
    reduction_factor: int = 3
    on_gpu: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """The plan that follows the study, and the best of one size."""

    trials: tuple[int, ...]
    """In each stage."""
    elastic: ElasticPlan
    static: ElasticPlan

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"trials": list(self.trials), "elastic": _json(self.elastic), "static": _json(self.static)}


def find_sizes(path: Path, question: SizeQuestion) -> Sizes:
    """Both plans, of the worker types of the cluster file at `path` that have a price.

    Raises:
        SpecError: the file or its prices are wrong, or no type of it can hold such a trial.
    """
    plan, types = read_priced(path)
    request = {"CPU": 1.0, "GPU": 1.0} if question.on_gpu else {"CPU": 1.0}
    offers = worker_offers(plan, types, request)
    if not offers:
        what = "a GPU" if question.on_gpu else "a CPU"
        raise SpecError(
            f"FILE = {path} has no worker type with a price that holds {what}; see `mlcluster cluster check`."
        )
    stages = halving_stages(question.num_trials, question.trial_seconds, reduction_factor=question.reduction_factor)
    return Sizes(
        trials=tuple(len(stage.seconds) for stage in stages),
        elastic=plan_nodes(stages, offers, question.goal),
        static=best_static_plan(stages, offers, question.goal),
    )


def worker_offers(plan: ClusterPlan, types: Sequence[PricedType], request: dict[str, float]) -> list[NodeOffer]:
    """The worker types with a price that hold such a trial."""
    return [offer for one in types if (offer := _offer(one, request, plan.max_workers)) is not None]


def _offer(one: PricedType, request: dict[str, float], max_workers: int) -> NodeOffer | None:
    slots = slots_on(one.resources, request)
    if one.node.is_head or slots == 0 or one.usd_per_hour is None:
        return None
    most = min(one.node.max_nodes, max_workers)
    return NodeOffer(name=one.node.name, usd_per_hour=one.usd_per_hour, slots=slots, max_nodes=most)


def size_lines(found: Sizes) -> list[str]:
    """A line a stage, then the sums, and what one size would cost."""
    lines = ["stage  trials  nodes  type              minutes"]
    for number, (count, step) in enumerate(zip(found.trials, found.elastic.stages, strict=True), start=1):
        minutes = (step.start_seconds + step.seconds) / 60
        lines.append(f"{number:>5}  {count:>6}  {step.num_nodes:>5}  {step.offer.name:<16} {minutes:>8.0f}")
    plan, one_size = found.elastic, found.static
    lines.append(f"{plan.reason}: ${plan.usd:.2f} in {plan.seconds / 3600:.1f} h")
    if not plan.meets_deadline:
        lines.append("the deadline is not met")
    if not plan.meets_budget:
        lines.append("the budget does not hold it")
    first = one_size.stages[0]
    late = "" if one_size.meets_deadline else ", too late"
    lines.append(
        f"the best single size, {first.num_nodes} x {first.offer.name}: ${one_size.usd:.2f} in "
        f"{one_size.seconds / 3600:.1f} h{late}"
    )
    return lines


def _json(plan: ElasticPlan) -> dict[str, Any]:
    return {
        "usd": plan.usd,
        "seconds": plan.seconds,
        "meets_deadline": plan.meets_deadline,
        "meets_budget": plan.meets_budget,
        "reason": plan.reason,
        "stages": [
            {"type": step.offer.name, "nodes": step.num_nodes, "seconds": step.start_seconds + step.seconds}
            for step in plan.stages
        ],
    }
