"""The search policies that a plan can be carried out with."""

from __future__ import annotations

from mlcluster.search import (
    AsyncHyperband,
    Candidate,
    CandidateSource,
    CostAwareHyperband,
    CostAwareSettings,
    CostTerms,
    SearchPolicy,
    SearchProblem,
)
from mlcluster.spec import default_configuration
from mlcluster.tune.piece import SEGMENT_OVERHEAD_SECONDS
from mlcluster.tune.plan import StudyPlan


def promise_policy(plan: StudyPlan) -> SearchPolicy:
    """Cost-aware Hyperband over the plan's families: each one's default comes first, or what did well before."""
    settings = CostAwareSettings(
        rungs_seconds=plan.settings.rungs_seconds,
        least_rate=_least_rate(plan),
        costs=CostTerms(overhead_seconds=SEGMENT_OVERHEAD_SECONDS),
    )
    known = {candidate.family for candidate in plan.first}
    defaults = tuple(
        Candidate(family=family, configuration=default_configuration(space), origin="default")
        for family, space in plan.spaces.items()
        if family not in known
    )
    first = (*plan.first, *defaults)
    problem = SearchProblem(spaces=plan.spaces, fidelities=plan.fidelities, first=first, seed=plan.seed)
    return CostAwareHyperband(settings, problem)


def _least_rate(plan: StudyPlan) -> float:
    """Improvement of the loss that a second of the first kind of worker must promise, by what a point is worth."""
    if plan.usd_per_point is None:
        return 0.0
    return 0.01 / plan.usd_per_point * plan.budget.kinds[0].usd_per_second


def halving_policy(plan: StudyPlan, source: CandidateSource) -> SearchPolicy:
    """Asynchronous Hyperband that promotes by rank, with candidates from `source`."""
    return AsyncHyperband(plan.settings, source=source, fidelities=dict(plan.fidelities))
