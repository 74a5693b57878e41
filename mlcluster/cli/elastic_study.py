"""On a cluster whose size follows its study: the nodes that a study asks for, and those that it gives up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from mlcluster.cli.cluster_checking import read_priced
from mlcluster.cli.cluster_prices import worker_prices
from mlcluster.cli.cluster_sizing import worker_offers
from mlcluster.cli.leasing import Machine
from mlcluster.cli.ray_local import is_on_cluster
from mlcluster.cli.run_context import RunContext
from mlcluster.cluster import ElasticPlan, Goal, PricedType, halving_stages, plan_nodes
from mlcluster.search import rung_levels
from mlcluster.spec import ProjectSpec
from mlcluster.tune import StudyPlan
from mlcluster.tune.plan import full_training_seconds
from mlcluster.tune.releases import ElasticCluster, KeepAll, Releases

START_SECONDS = 180.0
"""A node from being asked for to its first trial, as `cluster size` has it."""
MAX_START_SECONDS = 600.0
"""Whoever is not there by then is not waited for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """The nodes that a study begins with."""

    node_type: PricedType
    num_nodes: int
    plan: ElasticPlan
    num_trials: int

    @property
    def bundles(self) -> list[dict[str, float]]:
        """A whole node each, so that the autoscaler takes this type: it fills the one that is filled best."""
        resources = {
            name: self.node_type.resources[name] for name in ("CPU", "GPU") if name in self.node_type.resources
        }
        return [resources] * self.num_nodes

    @property
    def text(self) -> str:
        """What is asked for, and why."""
        return (
            f"{self.num_nodes} x {self.node_type.node.name} for {self.num_trials} trials: {self.plan.reason}, about "
            f"${self.plan.usd:.4f} in {self.plan.seconds / 60:.0f} minutes"
        )


def provisional_machine(spec: ProjectSpec) -> Machine:
    """The least that the project's workers need, to plan a study with before its nodes are there."""
    return Machine(num_cpus=2, num_gpus=1) if spec.workers in ("gpu", "both") else Machine(num_cpus=1)


def wished_nodes(spec: ProjectSpec, folder: Path, study: StudyPlan, *, free_usd: float) -> Wish | None:
    """The cheapest nodes with which the study gets through in `tune.budget`'s minutes and `free_usd`.

    The study that is planned for gives each family one whole bracket, with trainings of its default configuration to
    the end: a study with less time cuts its rungs down, and this asks what it would take to have them all. None where
    `prices.cluster` has no worker type that holds such a trial.
    """
    assert spec.prices.cluster is not None, "a study asks for nodes where its prices come from a cluster file"
    plan, types = read_priced(folder / spec.prices.cluster)
    request = {"CPU": 1.0, "GPU": 1.0} if spec.workers == "gpu" else {"CPU": 1.0}
    offers = worker_offers(plan, types, request)
    if not offers:
        return None
    full = full_training_seconds(study.spaces, study.fidelities).values()
    factor = study.settings.reduction_factor
    num_trials = len(full) * factor ** (len(rung_levels(list(full))) - 1)
    stages = halving_stages(num_trials, fmean(full), reduction_factor=factor)
    seconds = 60 * spec.tune.budget.minutes
    head = next((one.usd_per_hour or 0.0 for one in types if one.node.is_head), 0.0)
    # The minutes of a study begin once its nodes are there.
    goal = Goal(deadline_seconds=seconds + START_SECONDS, budget_usd=max(0.0, free_usd - head * seconds / 3600))
    found = plan_nodes(stages, offers, goal)
    first = found.stages[0]
    node_type = next(one for one in types if one.node.name == first.offer.name)
    return Wish(node_type=node_type, num_nodes=first.num_nodes, plan=found, num_trials=num_trials)


def ask_for_nodes(wish: Wish, say: Callable[[str], None]) -> None:
    """Waits until they are there. The cluster is connected; see `can_follow`."""
    from mlcluster.cluster.ray_autoscaling import wait_for_nodes

    say(f"asks for {wish.text}")
    wait_for_nodes(wish.bundles, timeout_seconds=MAX_START_SECONDS, say=say)


def can_follow(types: tuple[PricedType, ...]) -> bool:
    """Whether the size of the connected cluster follows what is asked for; never of a local Ray."""
    if not is_on_cluster() or not types:
        return False
    from mlcluster.cluster.ray_autoscaling import can_resize

    return can_resize([one.node.name for one in types])


def study_nodes(context: RunContext) -> KeepAll:
    """The run's nodes; a study may give up those of a cluster whose size follows it."""
    types = worker_prices(context.spec, context.project_folder).types
    if not can_follow(types):
        return KeepAll(context.nodes)
    from mlcluster.cluster.ray_autoscaling import let_go

    min_nodes = {one.node.name: one.node.min_nodes for one in types}
    cluster = ElasticCluster(let_go=let_go, min_nodes=min_nodes, start_seconds=START_SECONDS)
    return Releases(cluster, context.nodes)
