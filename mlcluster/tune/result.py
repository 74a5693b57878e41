"""What a study found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from mlcluster.spec import Configuration
from mlcluster.train import CurvePoint, Measured, as_loss


class Ending(StrEnum):
    """Why a study ended."""

    DONE = "done"
    """Each family was tried, and at least one trial trained to the top rung."""
    BUDGET = "budget"
    """Money or minutes ran out before that; what there is can be used all the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialSummary:
    """One trial as it stood at the end."""

    trial_id: str
    family: str
    configuration: Configuration
    origin: str
    state: str
    units: int
    rung: int
    value: float | None
    """The metric on the validation split at `units`, its best; None where nothing can be used."""
    seconds: float
    usd: float
    forecast_usd: float
    """What the cost model expected before each of its segments, in all."""
    curve: tuple[CurvePoint, ...]
    """Seconds in a curve count from the start of the trial, pauses left out."""
    checkpoint: str | None
    seed: int
    measured: Measured | None = None
    """What its best model needs, as the worker found it."""
    over_limit: str | None = None
    """Why it was pruned, where its model came to need more than the limits allow."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Improvement:
    """The best score of the study so far, and what had been spent when it came."""

    trial_id: str
    value: float
    usd: float
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyResult:
    """What the study found. `trials` is by id, in the order in which they started."""

    study_id: str
    metric: str
    ending: Ending
    trials: Mapping[str, TrialSummary]
    improvements: tuple[Improvement, ...]
    usd: float
    """Idle time and lost work included."""
    lost_usd: float
    """Of drivers that died. What a lost worker cost is among its trial's dollars, and marked as lost in the ledger."""
    seconds: float
    failure: str | None = None
    """The error of the trials, where all of them failed."""

    def ranked(self) -> list[TrialSummary]:
        """Trials with a score, best first."""
        scored = [trial for trial in self.trials.values() if trial.value is not None]
        return sorted(scored, key=lambda trial: as_loss(self.metric, trial.value or 0.0))
