"""What a study's money bought: by family, by rung, by point of score, and how true its forecasts were."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from mlcluster.search import TrialState
from mlcluster.tune.result import Improvement
from mlcluster.tune.story import SegmentEnd, SegmentStory, StudyStory, TrialStory

MILESTONES = (0.5, 0.9, 0.99)
"""Shares of what the search gained at which its spending is read off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyAccount:
    """What one family cost and reached."""

    family: str
    num_trials: int
    num_complete: int
    num_failed: int
    usd: float
    seconds: float
    best_trial_id: str | None
    best_value: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RungAccount:
    """How many trials stood at a rung, and what became of them; the four add up to `num_stood`."""

    rung: int
    num_stood: int
    num_promoted: int
    num_paused: int
    num_complete: int
    num_failed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Milestone:
    """A share of the gain in score, and what the whole study had cost when it was reached."""

    gain_share: float
    trial_id: str
    value: float
    usd: float
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LastPoints:
    """The end of the gain against its price: from `since` on, the score rose by `gain` for `usd`."""

    since: Improvement
    gain: float
    """In units of the metric, above zero whichever way is better."""
    usd: float
    usd_after: float
    """Spent after the best score was there, to no further gain."""
    milestones: tuple[Milestone, ...]
    """Up to 100 % of the gain."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForecastPoint:
    """A segment that trained to its units: what was expected, what it may take at worst, what it took."""

    trial_id: str
    family: str
    expected_seconds: float
    worst_case_seconds: float | None
    actual_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ForecastCheck:
    """Forecasts against what happened, segment by segment."""

    points: tuple[ForecastPoint, ...]
    num_cut: int
    """Segments that their limit ended early: none of `points`, and none of those under the worst case."""
    median_abs_log_error: float | None
    """Of ln(actual / expected): 0.1 is 10 % off, either way. None without points."""
    under_worst_case_share: float | None
    """Of points and cut segments; None where the journal holds no worst cases."""


def family_accounts(story: StudyStory) -> tuple[FamilyAccount, ...]:
    """The dearest family first."""
    families: dict[str, list[TrialStory]] = {}
    for trial in story.trials:
        families.setdefault(trial.family, []).append(trial)
    accounts = [_family_account(family, trials) for family, trials in families.items()]
    return tuple(sorted(accounts, key=lambda account: -account.usd))


def _family_account(family: str, trials: Sequence[TrialStory]) -> FamilyAccount:
    best = min((one for one in trials if one.rank is not None), key=lambda one: one.rank or 0, default=None)
    states = [trial.state for trial in trials]
    return FamilyAccount(
        family=family,
        num_trials=len(trials),
        num_complete=states.count(TrialState.COMPLETE),
        num_failed=states.count(TrialState.FAILED),
        usd=sum(trial.usd for trial in trials),
        seconds=sum(trial.seconds for trial in trials),
        best_trial_id=None if best is None else best.trial_id,
        best_value=None if best is None else best.value,
    )


def rung_accounts(story: StudyStory) -> tuple[RungAccount, ...]:
    """The lowest rung first. A trial stands where its training is long enough for a rung, asked for or not."""
    fates: dict[int, list[str]] = {}
    for trial in story.trials:
        stood = _rungs_stood_at(trial)
        for rung in stood:
            is_promoted = rung < max(stood) or any(one.rung > rung for one in trial.segments)
            fates.setdefault(rung, []).append("promoted" if is_promoted else trial.state)
    return tuple(
        RungAccount(
            rung=rung,
            num_stood=len(fates[rung]),
            num_promoted=fates[rung].count("promoted"),
            num_paused=sum(fate in (TrialState.PAUSED, TrialState.RUNNING) for fate in fates[rung]),
            num_complete=fates[rung].count(TrialState.COMPLETE),
            num_failed=fates[rung].count(TrialState.FAILED),
        )
        for rung in sorted(fates)
    )


def _rungs_stood_at(trial: TrialStory) -> set[int]:
    whole = [one for one in trial.segments if one.end is SegmentEnd.REPORTED and _is_usable(one)]
    stood: set[int] = set()
    for segment in whole:
        above = segment.rung if segment.rung_after is None else segment.rung_after
        stood.update(range(segment.rung, above + 1))
    # Journals without decisions do not hold the rungs that came for nothing; where the trial ended, its state tells.
    if whole and trial.state is TrialState.COMPLETE:
        stood.update(range(min(stood), trial.rung + 1))
    return stood


def _is_usable(segment: SegmentStory) -> bool:
    return segment.loss is not None and math.isfinite(segment.loss)


def last_points(story: StudyStory) -> LastPoints | None:
    """The price of the end of the gain: from nine tenths of it on, or its last step; None without two scores."""
    steps = story.improvements
    if len(steps) < 2:
        return None
    whole_gain = abs(steps[-1].value - steps[0].value)
    milestones = [_milestone(steps, share, whole_gain) for share in (*MILESTONES, 1.0)]
    nine_tenths = _first_with(steps, 0.9, whole_gain)
    since = nine_tenths if nine_tenths is not steps[-1] else steps[-2]
    return LastPoints(
        since=since,
        gain=abs(steps[-1].value - since.value),
        usd=steps[-1].usd - since.usd,
        usd_after=max(0.0, story.usd - steps[-1].usd),
        milestones=tuple(milestones),
    )


def _milestone(steps: Sequence[Improvement], share: float, whole_gain: float) -> Milestone:
    found = _first_with(steps, share, whole_gain)
    return Milestone(gain_share=share, trial_id=found.trial_id, value=found.value, usd=found.usd, seconds=found.seconds)


def _first_with(steps: Sequence[Improvement], share: float, whole_gain: float) -> Improvement:
    """The first step that has brought this share of the gain, but for a rounding."""
    least = share * whole_gain * (1 - 1e-9)
    return next((one for one in steps if abs(one.value - steps[0].value) >= least), steps[-1])


def check_forecasts(story: StudyStory) -> ForecastCheck:
    """Expected and worst-case seconds of each segment against its actual ones."""
    points = tuple(
        ForecastPoint(
            trial_id=trial.trial_id,
            family=trial.family,
            expected_seconds=segment.expected_seconds,
            worst_case_seconds=segment.worst_case_seconds,
            actual_seconds=segment.seconds,
        )
        for trial in story.trials
        for segment in trial.segments
        if segment.end is SegmentEnd.REPORTED and segment.seconds and segment.expected_seconds > 0
    )
    num_cut = sum(one.end is SegmentEnd.CUT for trial in story.trials for one in trial.segments)
    errors = [abs(math.log(one.actual_seconds / one.expected_seconds)) for one in points]
    bounded = [one for one in points if one.worst_case_seconds is not None]
    num_under = sum(one.actual_seconds <= (one.worst_case_seconds or 0.0) for one in bounded)
    return ForecastCheck(
        points=points,
        num_cut=num_cut,
        median_abs_log_error=median(errors) if errors else None,
        under_worst_case_share=num_under / (len(bounded) + num_cut) if bounded else None,
    )
