"""What a study keeps about its trials beside the policy: curves, checkpoints, forecasts, and the best so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from mlcluster.search import TrialRecord
from mlcluster.train import CurvePoint, TrialReport, as_loss
from mlcluster.tune.result import Improvement, TrialSummary


@dataclass(kw_only=True, slots=True)
class _Book:
    seconds: float = 0.0
    expected_usd: float = 0.0
    num_losses: int = 0
    curve: list[CurvePoint] = field(default_factory=list)
    latest: TrialReport | None = None
    best: TrialReport | None = None
    """The report whose checkpoint would ship: more training may make a model worse."""
    over_limit: str | None = None

    @property
    def checkpoints(self) -> set[str]:
        return {report.checkpoint for report in (self.latest, self.best) if report is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """What the whole study had spent at a moment."""

    usd: float
    seconds: float


class TrialBooks:
    """Of one study; `metric` is what it follows. A trial has a book once its first segment has started."""

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self._books: dict[str, _Book] = {}
        self._superseded: list[str] = []
        self.improvements: list[Improvement] = []

    def __contains__(self, trial_id: str) -> bool:
        return trial_id in self._books

    @property
    def best(self) -> Improvement | None:
        return self.improvements[-1] if self.improvements else None

    def expect(self, trial_id: str, usd: float) -> None:
        """A segment starts that is expected to cost that much."""
        self._of(trial_id).expected_usd += usd

    def keep(self, report: TrialReport, over_limit: str | None = None) -> None:
        """Its curve; and of checkpoints only the latest, to go on from, and the best that keeps the limits, to ship."""
        book = self._of(report.trial_id)
        book.curve += [replace(point, seconds=point.seconds + book.seconds) for point in report.curve]
        book.seconds += report.seconds
        before = book.checkpoints
        book.latest = report
        book.over_limit = over_limit
        if over_limit is None:
            self._keep_best(book, report)
        self._superseded += before - book.checkpoints

    @staticmethod
    def _keep_best(book: _Book, report: TrialReport) -> None:
        if math.isfinite(report.loss) and (book.best is None or report.loss < book.best.loss):
            # A model that does not grow with its training was measured once, after its first segment.
            measured = report.measured or (None if book.best is None else book.best.measured)
            book.best = replace(report, measured=measured)

    def note_improvement(self, report: TrialReport, spent: Spent) -> None:
        """Where the report is better than all before."""
        value = report.curve[-1].value
        if self.best is None or as_loss(self._metric, value) < as_loss(self._metric, self.best.value):
            self.improvements.append(
                Improvement(trial_id=report.trial_id, value=value, usd=spent.usd, seconds=spent.seconds)
            )

    def note_loss(self, trial_id: str) -> int:
        """The trial's worker was lost; how often that makes."""
        book = self._of(trial_id)
        book.num_losses += 1
        return book.num_losses

    def has_lost_workers(self, trial_id: str) -> bool:
        return trial_id in self._books and self._books[trial_id].num_losses > 0

    def pop_superseded(self) -> list[str]:
        """Checkpoints to delete once the reports that made them needless are on disk."""
        names, self._superseded = self._superseded, []
        return names

    def summary(self, trial: TrialRecord, *, usd: float, seed: int) -> TrialSummary:
        """The trial as it stands now."""
        book = self._of(trial.trial_id)
        return TrialSummary(
            trial_id=trial.trial_id,
            family=trial.candidate.family,
            configuration=trial.candidate.configuration,
            origin=trial.candidate.origin,
            state=trial.state,
            units=book.best.units if book.best else 0,
            rung=trial.rung,
            value=book.best.curve[-1].value if book.best else None,
            seconds=book.seconds,
            usd=usd,
            forecast_usd=book.expected_usd,
            curve=tuple(book.curve),
            checkpoint=book.best.checkpoint if book.best else None,
            seed=seed,
            measured=book.best.measured if book.best else None,
            over_limit=book.over_limit,
        )

    def _of(self, trial_id: str) -> _Book:
        return self._books.setdefault(trial_id, _Book())
