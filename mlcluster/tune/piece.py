"""What one worker trains at a time: a segment, or several of one family as one.

Pure: what a piece costs by the plan's estimates, and whether one more trial is worth taking in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mlcluster.search import Decision, Suggestion
from mlcluster.spec import Device
from mlcluster.train import Span, TrialReport, is_cheaper_together
from mlcluster.tune.plan import StudyPlan

SEGMENT_OVERHEAD_SECONDS = 0.1
"""Nominal price of a segment beside its training: reading and writing checkpoints."""
MAX_STRETCH = 3.0
"""A piece takes at most this multiple of its longest member alone: the reports of all come only at its end."""


@dataclass(kw_only=True, slots=True, eq=False)
class Piece:
    """Suggestions that one worker carries out as one, and what has come of them so far, by trial."""

    started_at: float
    worker: Device = "cpu"
    """The kind of worker that has it."""
    expected_seconds: float = 0.0
    suggestions: list[Suggestion] = field(default_factory=list)
    reports: dict[str, TrialReport] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)
    """What became of each."""

    @property
    def is_done(self) -> bool:
        return len(self.reports) == len(self.suggestions)

    def seconds_shares(self) -> dict[str, float]:
        """Each member's share of a finished piece, by the seconds that it has reported; they sum to 1."""
        whole = sum(report.seconds for report in self.reports.values())
        if whole <= 0:
            return dict.fromkeys(self.reports, 1 / len(self.reports))
        return {trial_id: report.seconds / whole for trial_id, report in self.reports.items()}


def nominal_seconds(plan: StudyPlan, suggestions: Sequence[Suggestion], worker: Device = "cpu") -> float:
    """Of a piece on a kind of worker, as the estimates of its family have it. Only CPUs train several as one."""
    if len(suggestions) == 1:
        return _alone_seconds(plan, suggestions[0], worker)
    assert worker == "cpu", "several are trained as one on CPUs only"
    cost = plan.together[suggestions[0].candidate.family]
    return SEGMENT_OVERHEAD_SECONDS * len(suggestions) + cost([_span(suggestion) for suggestion in suggestions])


def point_of(plan: StudyPlan, suggestions: Sequence[Suggestion]) -> npt.NDArray[np.float64]:
    """Where a piece lies in its family's search space: the mean of its members' places; shape (hyperparameters,)."""
    space = plan.spaces[suggestions[0].candidate.family]
    configurations = [suggestion.candidate.configuration for suggestion in suggestions]
    points = [[domain.unit(one[name]) for name, domain in space.items()] for one in configurations]  # type: ignore[arg-type]
    return np.asarray(np.mean(points, axis=0), dtype=np.float64)


def able_workers(plan: StudyPlan, suggestion: Suggestion) -> tuple[Device, ...]:
    """The kinds of worker in the plan that can train it."""
    family = suggestion.candidate.family
    names = (kind.name for kind in plan.budget.kinds)
    return tuple(name for name in names if name == "cpu" or family in plan.gpu_costs)


def work_shares(plan: StudyPlan, suggestions: Sequence[Suggestion]) -> dict[str, float]:
    """Each trial's share of a piece, by what it would cost alone; they sum to 1."""
    alone = {suggestion.trial_id: _alone_seconds(plan, suggestion) for suggestion in suggestions}
    return {trial_id: seconds / sum(alone.values()) for trial_id, seconds in alone.items()}


def done_seconds(plan: StudyPlan, piece: Piece) -> float:
    """Nominal seconds of what a finished piece has trained, which a limit may have cut short; 0 where nothing was."""
    shares, trained = work_shares(plan, piece.suggestions), 0.0
    for suggestion in piece.suggestions:
        asked = suggestion.stop_units - suggestion.start_units
        if asked <= 0:
            return 0.0
        units = piece.reports[suggestion.trial_id].units - suggestion.start_units
        trained += shares[suggestion.trial_id] * units / asked
    overhead_seconds = SEGMENT_OVERHEAD_SECONDS * len(piece.suggestions)
    return overhead_seconds + trained * (nominal_seconds(plan, piece.suggestions, piece.worker) - overhead_seconds)


def is_worth_joining(plan: StudyPlan, suggestion: Suggestion, members: Sequence[Suggestion]) -> bool:
    """Whether a piece of `members` should take one more trial in, rather than leave it to a piece of its own."""
    family = members[0].candidate.family
    if suggestion.candidate.family != family or family not in plan.together:
        return False
    if not is_cheaper_together(plan.together[family], [_span(member) for member in members], [_span(suggestion)]):
        return False
    longest = max(_alone_seconds(plan, member) for member in (*members, suggestion))
    return nominal_seconds(plan, [*members, suggestion]) <= MAX_STRETCH * longest


def _alone_seconds(plan: StudyPlan, suggestion: Suggestion, worker: Device = "cpu") -> float:
    candidate = suggestion.candidate
    family = candidate.family
    cost = plan.gpu_costs[family] if worker == "gpu" else plan.fidelities[family].nominal_seconds
    whole = cost(candidate.configuration, suggestion.stop_units)
    if candidate.family in plan.grown_anew or not suggestion.start_units:
        return SEGMENT_OVERHEAD_SECONDS + whole
    return SEGMENT_OVERHEAD_SECONDS + whole - cost(candidate.configuration, suggestion.start_units)


def _span(suggestion: Suggestion) -> Span:
    return Span(
        configuration=suggestion.candidate.configuration,
        start_units=suggestion.start_units,
        stop_units=suggestion.stop_units,
    )


def trial_seed(plan: StudyPlan, trial_id: str) -> int:
    """The trial's own; scikit-learn takes seeds of 32 bits."""
    return (plan.seed * 100_003 + int(trial_id[1:])) % 2**32
