"""What did the study find?

In: a `StudyPlan`. Out: a `StudyResult`, from which `select_winner` takes the model that ships. A `Study` joins policy,
money and journal; runners drive it: `simulator` on a virtual clock, `ray_study` on Ray Tune. Not here: how to train or
what to try.
"""

from mlcluster.tune.benchmark import Benchmark, BenchmarkTask, Curve, Thresholds, load_benchmark
from mlcluster.tune.plan import StudyBudget, StudyPlan, check_room_for_one_trial, plan_study
from mlcluster.tune.result import Ending, Improvement, StudyResult, TrialSummary
from mlcluster.tune.search_simulator import (
    AskTell,
    BestSoFar,
    Piece,
    PieceOutcome,
    SearchedTrial,
    SearchRun,
    SearchSettings,
    free_decisions,
    simulate_search,
)
from mlcluster.tune.selection import Limits, Measured, Winner, select_winner
from mlcluster.tune.simulator import VirtualClock, simulate_study
from mlcluster.tune.study import Study

__all__ = [
    "AskTell",
    "Benchmark",
    "BenchmarkTask",
    "BestSoFar",
    "Curve",
    "Ending",
    "Improvement",
    "Limits",
    "Measured",
    "Piece",
    "PieceOutcome",
    "SearchRun",
    "SearchSettings",
    "SearchedTrial",
    "Study",
    "StudyBudget",
    "StudyPlan",
    "StudyResult",
    "Thresholds",
    "TrialSummary",
    "VirtualClock",
    "Winner",
    "check_room_for_one_trial",
    "free_decisions",
    "load_benchmark",
    "plan_study",
    "select_winner",
    "simulate_search",
    "simulate_study",
]
