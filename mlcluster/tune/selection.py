"""Which trial wins: the best score, or the simplest family within a tolerance of it, inside the limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlcluster.errors import GateFailed
from mlcluster.train import Measured, as_loss
from mlcluster.tune.limits import Limits
from mlcluster.tune.result import StudyResult, TrialSummary


@dataclass(frozen=True, kw_only=True, slots=True)
class Winner:
    """The trial that ships, and why."""

    trial: TrialSummary
    reason: str
    measured: Measured | None
    rejected: tuple[str, ...]
    """Better trials that broke a limit, with the numbers."""


def select_winner(
    result: StudyResult,
    *,
    simplicity: Sequence[str],
    within: float,
    limits: Limits,
    measure: Callable[[TrialSummary], Measured],
) -> Winner:
    """The best trial that keeps the limits; among families within `within` of its score, the first in `simplicity`.

    `measure` exports and times a trial's model; it is asked only where limits are set, best trials first.

    Raises:
        GateFailed: no trial keeps the limits.
    """
    rejected: list[str] = []
    kept: dict[str, Measured | None] = {}

    def keeps_limits(trial: TrialSummary) -> bool:
        if trial.trial_id not in kept:
            if limits == Limits():
                kept[trial.trial_id] = None
                return True
            measured = measure(trial)
            violation = limits.violation(measured)
            if violation is not None:
                rejected.append(f"{trial.trial_id} ({trial.family}) {violation}")
                return False
            kept[trial.trial_id] = measured
        return True

    check_limits_are_kept(result)
    ranked = result.ranked()
    best = next((trial for trial in ranked if keeps_limits(trial)), None)
    if best is None:
        raise _limits_broken(rejected)
    winner, reason = _simplest_near(best, ranked, result.metric, simplicity, within, keeps_limits)
    return Winner(trial=winner, reason=reason, measured=kept[winner.trial_id], rejected=tuple(rejected))


def check_limits_are_kept(result: StudyResult) -> None:
    """Passes where some trial has a score, or none was pruned for what its model needs.

    Raises:
        GateFailed: every trial that was measured broke a limit.
    """
    pruned = [trial for trial in result.trials.values() if trial.over_limit is not None]
    if pruned and not result.ranked():
        raise _limits_broken([f"{trial.trial_id} ({trial.family}) {trial.over_limit}" for trial in pruned])


def _limits_broken(broken: Sequence[str]) -> GateFailed:
    return GateFailed(
        f"tune.limits are broken by each of {len(broken)} trials ({'; '.join(broken[:3])}); raise them, "
        "or name simpler families under models."
    )


def _simplest_near(
    best: TrialSummary,
    ranked: Sequence[TrialSummary],
    metric: str,
    simplicity: Sequence[str],
    within: float,
    keeps_limits: Callable[[TrialSummary], bool],
) -> tuple[TrialSummary, str]:
    assert best.value is not None
    worst_allowed = as_loss(metric, best.value) + within
    for family in simplicity[: simplicity.index(best.family)]:
        near = next((trial for trial in ranked if trial.family == family), None)
        if near is None or near.value is None or as_loss(metric, near.value) > worst_allowed:
            continue
        if keeps_limits(near):
            gap = abs(best.value - near.value)
            return near, (
                f"{family} {metric} {near.value:.4f} is within {within:g} of the best, "
                f"{best.family} {best.value:.4f} (gap {gap:.4f}), and simpler"
            )
    return best, f"{best.family} has the best {metric}, {best.value:.4f}"
