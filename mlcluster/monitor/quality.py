"""How good are the live answers? Predictions joined with the labels that came for them, by model and version.

In: the folder of predictions and feedback. Out: a `LiveQuality` a version of a model, each measure with its bounds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlcluster.data import Label, TargetColumn
from mlcluster.serve.feedback import read_feedback
from mlcluster.serve.records.layout import PredictionRecord
from mlcluster.serve.records.reading import read_records
from mlcluster.train.metrics import METRICS, UndefinedMetric
from mlcluster.verify.estimates import estimate, shortage
from mlcluster.verify.intervals import Estimate

CONFIDENCE = 0.95
TargetOf = Callable[[str, str], TargetColumn | None]
"""What a version of a model predicts, by both names; None where that is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveQuality:
    """What is known of one version's live answers."""

    model: str
    version: str
    num_rows: int
    """Rows that were answered and recorded with their answers."""
    num_labelled: int
    """Of them, those whose label has come."""
    measures: dict[str, Estimate]
    """By metric; one-sided bounds at `CONFIDENCE`. Empty while the labels are too few."""
    shortage: str | None
    """Why there are no measures yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveReport:
    """What is known of all live answers."""

    versions: tuple[LiveQuality, ...]
    """In the order of their first answers."""
    num_unknown: int
    """Labels whose answer is not on record: of another machine, of a request of many rows, or removed."""


@dataclass(kw_only=True, slots=True)
class _Joined:
    num_rows: int = 0
    labels: list[Label] = field(default_factory=list)
    scores: list[list[float]] = field(default_factory=list)


def live_quality(folder: Path, target_of: TargetOf, *, seed: int = 0) -> LiveReport:
    """Every version of each model that has answered; `seed` is of the bounds that are drawn again."""
    labels = read_feedback(folder)
    joined: dict[tuple[str, str], _Joined] = defaultdict(_Joined)
    for record in read_records(folder, with_inputs=False):
        if record.outputs is None:
            continue
        found = joined[record.model, record.version]
        found.num_rows += record.num_rows
        for row in range(record.num_rows):
            item = labels.pop((record.id, row), None)
            if item is not None:
                found.labels.append(item.label)
                found.scores.append(_scores(record, row))
    versions = tuple(_quality(*names, found, target_of, seed) for names, found in joined.items())
    return LiveReport(versions=versions, num_unknown=len(labels))


def _scores(record: PredictionRecord, row: int) -> list[float]:
    assert record.outputs is not None
    if "value" in record.outputs:
        return [float(record.outputs["value"][row])]
    return [float(share) for share in record.outputs["probabilities"][row]]


def _quality(model: str, version: str, found: _Joined, target_of: TargetOf, seed: int) -> LiveQuality:
    measures: dict[str, Estimate] = {}
    missing: str | None = "no label has come yet"
    if found.labels:
        target = target_of(model, version)
        missing = "what it predicts is not known: that version is not registered, or cannot be read"
        if target is not None:
            measures, missing = _measured(found, target, seed)
    return LiveQuality(
        model=model,
        version=version,
        num_rows=found.num_rows,
        num_labelled=len(found.labels),
        measures=measures,
        shortage=missing,
    )


def _measured(found: _Joined, target: TargetColumn, seed: int) -> tuple[dict[str, Estimate], str | None]:
    """The measures, or why there are none."""
    y, scores = _arrays(found, target)
    measures: dict[str, Estimate] = {}
    missing = shortage("accuracy", target.task, y)
    if missing is None:
        for name, definition in METRICS.items():
            if target.task not in definition.tasks or shortage(name, target.task, y) is not None:
                continue
            try:
                measures[name] = estimate(name, y, scores, confidence=CONFIDENCE, rng=np.random.default_rng(seed))
            except UndefinedMetric:
                continue
    return measures, missing


def _arrays(
    found: _Joined, target: TargetColumn
) -> tuple[npt.NDArray[np.int64] | npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """What came true, and the scores (rows, classes or 1) for it; without labels that the target cannot have."""
    codes = {(type(label), label): code for code, label in enumerate(target.classes)}
    width = max(1, len(target.classes))
    kept: list[float] = []
    scores: list[list[float]] = []
    for label, shares in zip(found.labels, found.scores, strict=True):
        true = codes.get((type(label), label)) if codes else label
        if len(shares) == width and true is not None and not isinstance(true, str):
            kept.append(true)
            scores.append(shares)
    y: npt.NDArray[np.int64] | npt.NDArray[np.float64] = np.array(kept, dtype=np.float64)
    if codes:
        y = np.array(kept, dtype=np.int64)
    return y, np.array(scores, dtype=np.float64).reshape(len(kept), width)
