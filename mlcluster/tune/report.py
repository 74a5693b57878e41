"""The report of a study in numbers: what `report_html` draws and `mlcluster report --json` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mlcluster.train import METRICS, Measured
from mlcluster.tune.report_accounts import (
    FamilyAccount,
    ForecastCheck,
    LastPoints,
    RungAccount,
    check_forecasts,
    family_accounts,
    last_points,
    rung_accounts,
)
from mlcluster.tune.report_importance import FamilyImportance, hyperparameter_importance
from mlcluster.tune.report_pareto import ParetoFront, pareto_front
from mlcluster.tune.story import StudyStory, TrialStory, as_plain_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which trial ships and why, with what was measured on the way (by trial), its limits included."""

    trial_id: str
    reason: str
    measured: Mapping[str, Measured] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` gives an equal selection."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Selection:
        measured = {trial_id: Measured(**one) for trial_id, one in value["measured"].items()}
        return cls(trial_id=value["trial_id"], reason=value["reason"], measured=measured)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorePoint:
    """The best score of one trial, and what the whole study had cost when it came."""

    trial_id: str
    family: str
    value: float
    usd: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyReport:
    """All numbers of the report. Trials' dollars, `idle_usd` and `lost_usd` add up to the study's."""

    story: StudyStory
    winner: TrialStory | None
    """The trial that was chosen, or the best one where none was chosen yet."""
    reason: str
    """Why that one."""
    cap_usd: float
    idle_usd: float
    """Of workers between segments, starting and ending."""
    lost_usd: float
    """Of drivers that died, without what trials bear."""
    lost_with_workers_usd: float
    """Among the trials' dollars, to no avail: the worker was lost, or the training raised."""
    states: Mapping[str, int]
    points: tuple[ScorePoint, ...]
    families: tuple[FamilyAccount, ...]
    rungs: tuple[RungAccount, ...]
    importances: tuple[FamilyImportance, ...]
    pareto: ParetoFront
    forecast: ForecastCheck
    last_points: LastPoints | None

    @property
    def metric(self) -> str:
        return self.story.metric or "score"

    @property
    def num_over_limit(self) -> int:
        """Trials that were given up because their models need more than the limits allow."""
        return sum(trial.over_limit is not None for trial in self.story.trials)

    @property
    def is_more_better(self) -> bool:
        known = METRICS.get(self.metric)
        return known is not None and known.direction == "maximize"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: the numbers of each chart, and of each trial its sums; the story has its segments."""
        numbers = {name: value for name, value in asdict(self).items() if name not in ("story", "winner")}
        story = self.story
        told: dict[str, Any] = as_plain_json(
            {
                "study_id": story.study_id,
                "metric": story.metric,
                "ending": story.ending,
                "usd": story.usd,
                "seconds": story.seconds,
                "winner": None if self.winner is None else _trial_row(self.winner),
                **numbers,
                "improvements": [asdict(one) for one in story.improvements],
                "trials": [_trial_row(trial) for trial in story.trials],
            }
        )
        return told


def report_on(
    story: StudyStory,
    *,
    cap_usd: float,
    lost_usd: float = 0.0,
    lost_with_workers_usd: float = 0.0,
    selection: Selection | None = None,
) -> StudyReport:
    """The report of a study, ended or not. `lost_usd` is what dead drivers have cost it beside its trials."""
    ranked = story.ranked()
    by_id = {trial.trial_id: trial for trial in ranked}
    winner = ranked[0] if ranked else None
    reason = "the best score" if winner is not None else "no trial has given a score that can be used"
    if selection is not None and selection.trial_id in by_id:
        winner, reason = by_id[selection.trial_id], selection.reason
    families = family_accounts(story)
    trials_usd = sum(trial.usd for trial in story.trials)
    return StudyReport(
        story=story,
        winner=winner,
        reason=reason,
        cap_usd=cap_usd,
        idle_usd=max(0.0, story.usd - lost_usd - trials_usd),
        lost_usd=lost_usd,
        lost_with_workers_usd=lost_with_workers_usd,
        states=dict(Counter(str(trial.state) for trial in story.trials)),
        points=tuple(point for trial in ranked if (point := _score_point(trial)) is not None),
        families=families,
        rungs=rung_accounts(story),
        importances=tuple(
            hyperparameter_importance(
                account.family, [one for one in story.trials if one.family == account.family], seed=story.seed
            )
            for account in families
        ),
        pareto=pareto_front(ranked, _measured(ranked, selection)),
        forecast=check_forecasts(story),
        last_points=last_points(story),
    )


def _measured(ranked: Sequence[TrialStory], selection: Selection | None) -> dict[str, Measured]:
    """By trial: in the search as the worker found it, and at length where the choice of the winner asked for it."""
    in_search = {trial.trial_id: trial.measured for trial in ranked if trial.measured is not None}
    return {**in_search, **({} if selection is None else selection.measured)}


def _score_point(trial: TrialStory) -> ScorePoint | None:
    best = trial.best_segment
    if best is None or best.study_usd is None or trial.value is None:
        return None
    return ScorePoint(trial_id=trial.trial_id, family=trial.family, value=trial.value, usd=best.study_usd)


def _trial_row(trial: TrialStory) -> dict[str, Any]:
    names = ("trial_id", "rank", "family", "configuration", "origin", "state", "rung", "units", "value")
    sums = {"num_segments": len(trial.segments), "seconds": trial.seconds, "usd": trial.usd}
    needs = {"measured": None if trial.measured is None else asdict(trial.measured), "over_limit": trial.over_limit}
    return {**{name: getattr(trial, name) for name in names}, **sums, **needs}
