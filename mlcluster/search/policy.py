"""What a search policy is asked and what it answers, whichever policy it is.

A policy decides which trial trains next and until when; it knows no worker, no clock and no bill. Runners and studies
speak to all policies through `SearchPolicy`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from mlcluster.search.candidate import Candidate
from mlcluster.spec import Configuration


class Action(StrEnum):
    """What becomes of a trial that has reported."""

    PAUSE = "pause"
    CONTINUE = "continue"
    COMPLETE = "complete"
    STOP = "stop"


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What becomes of a trial, and why."""

    action: Action
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Suggestion:
    """Train this trial until that many units, and why."""

    trial_id: str
    candidate: Candidate
    rung: int
    start_units: int
    stop_units: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Fidelity:
    """How far the trainings of one family can go, and their nominal cost."""

    max_units: int
    nominal_seconds: Callable[[Configuration, int], float]


class TrialState(StrEnum):
    """Where a trial is in its life."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETE = "complete"
    FAILED = "failed"


@dataclass(kw_only=True, slots=True)
class TrialRecord:
    """All that the search knows of a trial. `losses` maps each rung that it has reached to its loss there."""

    trial_id: str
    candidate: Candidate
    bracket: int
    rung: int
    """The rung that it trains towards, or stands at."""
    target_units: int
    units: int = 0
    state: TrialState = TrialState.RUNNING
    losses: dict[int, float] = field(default_factory=dict)

    @property
    def is_short_of_its_rung(self) -> bool:
        return self.units < self.target_units


class SearchPolicy(Protocol):
    """Which configuration next, which trial goes on.

    Deterministic: the same seed and the same calls in the same order give the same decisions.
    """

    @property
    def trials(self) -> Sequence[TrialRecord]:
        """All trials, in the order in which they were accepted."""

    def trial(self, trial_id: str) -> TrialRecord:
        """One of them."""

    def suggest(self, *, new_trials: bool = True, room_seconds: float = math.inf) -> Suggestion | None:
        """What a free worker should do next, with that many seconds left; None where nothing is left to do for now.

        Unless `accept` follows, nothing changes: asking twice gives the same answer.
        """

    def accept(self, suggestion: Suggestion) -> None:
        """The suggestion is being carried out."""

    def report(self, trial_id: str, *, units: int, loss: float, seconds: float = 0.0) -> Decision:
        """Takes what a trial came to after `seconds` of work; it goes on only by a later suggestion."""

    def lose(self, trial_id: str, *, units: int) -> None:
        """The trial's worker is gone: it stands again where its last checkpoint is, at `units`."""

    def give_up(self, trial_id: str) -> None:
        """The trial will not be tried again."""
