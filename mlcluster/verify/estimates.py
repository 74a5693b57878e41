"""A measure on some rows, with how far it may be off.

Shares of rows (accuracy, recall, precision) have exact intervals, areas under curves DeLong's, and what is computed
from a confusion matrix or from means is drawn again. Shapes: n rows, k classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from mlcluster.data import TaskKind
from mlcluster.train.metrics import METRICS, SMALLEST_PROBABILITY, confusion, predicted_classes, score
from mlcluster.verify.intervals import Estimate, area_under_roc, from_confusion, from_means, proportion

FloatArray = npt.NDArray[np.float64]
Targets = npt.NDArray[np.int64] | npt.NDArray[np.float64]
MIN_ROWS = 30
MIN_POSITIVES = 10
_NEEDS_POSITIVES = frozenset({"recall", "f1", "roc_auc"})


def shortage(metric: str, task: TaskKind, y: Targets) -> str | None:
    """Why the rows are too few to say anything about a measure, or None where they are enough."""
    if len(y) < MIN_ROWS:
        return f"not enough data ({len(y)} rows, {MIN_ROWS} are needed)"
    if task == "binary" and metric in _NEEDS_POSITIVES:
        num_positive = int((y == 1).sum())
        if num_positive < MIN_POSITIVES:
            return f"not enough data ({num_positive} positive rows, {MIN_POSITIVES} are needed)"
        if metric == "roc_auc" and len(y) - num_positive < MIN_POSITIVES:
            return f"not enough data ({len(y) - num_positive} negative rows, {MIN_POSITIVES} are needed)"
    return None


def estimate(metric: str, y: Targets, scores: FloatArray, *, confidence: float, rng: np.random.Generator) -> Estimate:
    """The measure with one-sided bounds; `scores` (n, k) of probabilities, or (n,) of values.

    Raises:
        UndefinedMetric: it has no value on these rows.
    """
    value = score(metric, y, scores)
    if "regression" in METRICS[metric].tasks:
        values = scores[:, 0] if scores.ndim == 2 else scores
        found = _of_means(metric, np.asarray(y, dtype=np.float64), values, confidence, rng)
    else:
        found = _of_classes(metric, np.asarray(y, dtype=np.int64), scores, confidence, rng)
    return Estimate(value=value, lower=min(found.lower, value), upper=max(found.upper, value))


def _of_classes(
    metric: str, y: npt.NDArray[np.int64], scores: FloatArray, confidence: float, rng: np.random.Generator
) -> Estimate:
    counts = confusion(y, predicted_classes(scores), scores.shape[1])
    is_binary = scores.shape[1] == 2
    if metric == "accuracy":
        return proportion(int(counts.trace()), len(y), confidence)
    if metric == "recall" and is_binary:
        return proportion(int(counts[1, 1]), int(counts[1].sum()), confidence)
    if metric == "precision" and is_binary:
        return proportion(int(counts[1, 1]), int(counts[:, 1].sum()), confidence)
    if metric == "roc_auc":
        return area_under_roc(y, scores, confidence)
    if metric in ("log_loss", "brier"):
        return from_means(_losses(metric, y, scores)[:, None], lambda means: means[:, 0], confidence, rng)
    return from_confusion(counts, _CONFUSION_MEASURES[metric](counts), confidence, rng)


def _losses(metric: str, y: npt.NDArray[np.int64], scores: FloatArray) -> FloatArray:
    """What each row adds to the mean that the measure is, (n,)."""
    own = scores[np.arange(len(y)), y]
    if metric == "log_loss":
        return np.asarray(-np.log(np.clip(own, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)))
    if scores.shape[1] == 2:
        return np.asarray((1.0 - own) ** 2)
    return np.asarray((scores**2).sum(axis=1) - 2 * own + 1)


def _of_means(metric: str, y: FloatArray, values: FloatArray, confidence: float, rng: np.random.Generator) -> Estimate:
    error = y - values
    if metric == "mae":
        return from_means(np.abs(error)[:, None], lambda means: means[:, 0], confidence, rng)
    if metric == "rmse":
        return from_means((error**2)[:, None], lambda means: np.sqrt(means[:, 0]), confidence, rng)
    centered = y - y.mean()
    columns = np.column_stack([error**2, centered, centered**2])
    return from_means(columns, _explained_share, confidence, rng)


def _explained_share(means: FloatArray) -> FloatArray:
    """r2 from the means of squared error, target and squared target, (b, 3) -> (b,)."""
    variance = np.maximum(means[:, 2] - means[:, 1] ** 2, np.finfo(np.float64).tiny)
    return 1.0 - means[:, 0] / variance


ConfusionMeasure = Callable[[FloatArray], FloatArray]


def _macro_recall(counts: npt.NDArray[np.int64]) -> ConfusionMeasure:
    rows = counts.sum(axis=1)
    occurs = rows > 0
    return lambda drawn: (drawn.diagonal(axis1=1, axis2=2)[:, occurs] / rows[occurs]).mean(axis=1)


def _macro_precision(counts: npt.NDArray[np.int64]) -> ConfusionMeasure:
    counted = (counts.sum(axis=0) + counts.sum(axis=1)) > 0

    def measure(drawn: FloatArray) -> FloatArray:
        predicted = np.maximum(drawn.sum(axis=1), np.finfo(np.float64).tiny)
        return np.asarray((drawn.diagonal(axis1=1, axis2=2) / predicted)[:, counted].mean(axis=1))

    return measure


def _f1(counts: npt.NDArray[np.int64]) -> ConfusionMeasure:
    counted = (counts.sum(axis=0) + counts.sum(axis=1)) > 0
    if len(counts) == 2:
        counted = np.array([False, True])

    def measure(drawn: FloatArray) -> FloatArray:
        total = drawn.sum(axis=1) + drawn.sum(axis=2)
        return np.asarray((2 * drawn.diagonal(axis1=1, axis2=2)[:, counted] / total[:, counted]).mean(axis=1))

    return measure


_CONFUSION_MEASURES: Mapping[str, Callable[[npt.NDArray[np.int64]], ConfusionMeasure]] = {
    "balanced_accuracy": _macro_recall,
    "recall": _macro_recall,
    "precision": _macro_precision,
    "f1": _f1,
}
