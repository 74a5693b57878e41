"""What did the study find?

In: a `StudyPlan`. Out: a `StudyResult`, from which `select_winner` takes the model that ships. A `Study` joins policy,
money and journal; runners drive it: `simulator` on a virtual clock, `ray_study` on Ray Tune. `tell_study` reads a
journal back as a story, `replay_study` asks a policy its questions again, `render_report` makes a page of a study. Not
here: how to train or what to try.
"""

from mlcluster.train import Measured
from mlcluster.tune.benchmark import Benchmark, BenchmarkTask, Curve, Thresholds, load_benchmark
from mlcluster.tune.crossover import Crossover, crossovers
from mlcluster.tune.journal import read_journal
from mlcluster.tune.limits import Limits
from mlcluster.tune.past_studies import past_study_from_json, past_study_to_json
from mlcluster.tune.placement import Placement, cheapest_worker, first_on
from mlcluster.tune.plan import StudyBudget, StudyPlan, check_room_for_one_trial, plan_study
from mlcluster.tune.policies import halving_policy, promise_policy
from mlcluster.tune.replay import Divergence, Replay, replay_study
from mlcluster.tune.report import Selection, StudyReport, report_on
from mlcluster.tune.report_accounts import ForecastCheck
from mlcluster.tune.report_html import render_report
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
from mlcluster.tune.selection import Winner, check_limits_are_kept, select_winner
from mlcluster.tune.simulator import VirtualClock, simulate_study
from mlcluster.tune.story import (
    SegmentEnd,
    SegmentStory,
    StudyStory,
    TrialStory,
    as_plain_json,
    tell_study,
    trial_to_json,
)
from mlcluster.tune.study import Study
from mlcluster.tune.warm_start import FirstTrials, first_trials, shipped_portfolio

__all__ = [
    "AskTell",
    "Benchmark",
    "BenchmarkTask",
    "BestSoFar",
    "Crossover",
    "Curve",
    "Divergence",
    "Ending",
    "FirstTrials",
    "ForecastCheck",
    "Improvement",
    "Limits",
    "Measured",
    "Piece",
    "PieceOutcome",
    "Placement",
    "Replay",
    "SearchRun",
    "SearchSettings",
    "SearchedTrial",
    "SegmentEnd",
    "SegmentStory",
    "Selection",
    "Study",
    "StudyBudget",
    "StudyPlan",
    "StudyReport",
    "StudyResult",
    "StudyStory",
    "Thresholds",
    "TrialStory",
    "TrialSummary",
    "VirtualClock",
    "Winner",
    "as_plain_json",
    "cheapest_worker",
    "check_limits_are_kept",
    "check_room_for_one_trial",
    "crossovers",
    "first_on",
    "first_trials",
    "free_decisions",
    "halving_policy",
    "load_benchmark",
    "past_study_from_json",
    "past_study_to_json",
    "plan_study",
    "promise_policy",
    "read_journal",
    "render_report",
    "replay_study",
    "report_on",
    "select_winner",
    "shipped_portfolio",
    "simulate_search",
    "simulate_study",
    "tell_study",
    "trial_to_json",
]
