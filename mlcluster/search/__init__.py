"""Which configuration next, which trial goes on?

In: losses of trials at their rungs. Out: a `Suggestion` for a free worker or a `Decision` on a trial, each with its
reason. Pure and deterministic under a seed. Not here: training, money, clocks, Ray.
"""

from mlcluster.search.candidate import (
    BestFamiliesSource,
    Candidate,
    CandidateSource,
    FamilySource,
    Observation,
    RandomWithinFamily,
    rank_families,
)
from mlcluster.search.cost_aware import CostAwareHyperband, CostAwareSettings, SearchProblem
from mlcluster.search.history import PORTFOLIO_SIZE, PastStudy, PastTrial, learn_portfolio
from mlcluster.search.hyperband import AsyncHyperband, HyperbandSettings
from mlcluster.search.ladders import CostTerms
from mlcluster.search.policy import Action, Decision, Fidelity, SearchPolicy, Suggestion, TrialRecord, TrialState
from mlcluster.search.rungs import REDUCTION_FACTOR, rung_levels, units_within

__all__ = [
    "PORTFOLIO_SIZE",
    "REDUCTION_FACTOR",
    "Action",
    "AsyncHyperband",
    "BestFamiliesSource",
    "Candidate",
    "CandidateSource",
    "CostAwareHyperband",
    "CostAwareSettings",
    "CostTerms",
    "Decision",
    "FamilySource",
    "Fidelity",
    "HyperbandSettings",
    "Observation",
    "PastStudy",
    "PastTrial",
    "RandomWithinFamily",
    "SearchPolicy",
    "SearchProblem",
    "Suggestion",
    "TrialRecord",
    "TrialState",
    "learn_portfolio",
    "rank_families",
    "rung_levels",
    "units_within",
]
