"""How good are scores? The measures that a search follows and that gates are held against.

Shapes: n rows, k classes. `y` holds class indices 0..k-1 (int64, n) with `scores` (n, k) of probabilities, or values
(float64, n) with `scores` (n,) or (n, 1). Written in numpy, because a search asks after every unit of training:
`roc_auc` of 100,000 rows takes a few milliseconds. A measure that cannot be had is an `UndefinedMetric`, never a NaN
that a comparison would silently swallow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mlcluster.data.schema import TaskKind
from mlcluster.errors import DataError, SpecError

FloatArray = npt.NDArray[np.float64]
ClassArray = npt.NDArray[np.int64]
Measure = Callable[[npt.NDArray[Any], npt.NDArray[Any]], float]
Direction = Literal["maximize", "minimize"]

CLASSIFICATION_TASKS: frozenset[TaskKind] = frozenset({"binary", "multiclass"})
REGRESSION_TASKS: frozenset[TaskKind] = frozenset({"regression"})
SMALLEST_PROBABILITY = float(np.finfo(np.float32).eps)
"""Probabilities are held this far from 0 and 1 under a logarithm: served artifacts answer in float32."""


class UndefinedMetric(DataError):  # noqa: N818 - reads as a claim, like the tree in errors.py
    """The measure has no value for these rows; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricDefinition:
    """One measure. `compute(y, scores)` checks its input and raises `UndefinedMetric` rather than give a NaN."""

    name: str
    direction: Direction
    tasks: frozenset[TaskKind]
    compute: Measure


def default_metric(task: TaskKind) -> str:
    """The measure that a search follows when the project file names none."""
    defaults: dict[TaskKind, str] = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "r2"}
    return defaults[task]


def score(metric_name: str, y: npt.NDArray[Any], scores: npt.NDArray[Any], classes_count: int | None = None) -> float:
    """The measure of `scores` against `y`, finite; `classes_count`, when given, is the k that scores must have.

    Raises:
        SpecError: there is no measure of that name.
        UndefinedMetric: it has no value here: no rows, one class only, NaN among the scores, ...
    """
    if metric_name not in METRICS:
        raise SpecError(f"metric = {metric_name!r} is no measure; use one of {', '.join(METRICS)}.")
    if classes_count is not None and scores.ndim == 2 and scores.shape[1] != max(classes_count, 1):
        raise UndefinedMetric(
            f"{metric_name} = undefined for {scores.shape[1]} columns of scores and {classes_count} classes; "
            "give one column of probabilities a class."
        )
    return METRICS[metric_name].compute(y, scores)


def as_loss(metric_name: str, value: float) -> float:
    """`value` turned so that lower is better: 1 - value where more is better (their best is 1), else as it is."""
    return 1.0 - value if METRICS[metric_name].direction == "maximize" else value


def from_loss(metric_name: str, loss: float) -> float:
    """The value that `as_loss` turned into `loss`."""
    return 1.0 - loss if METRICS[metric_name].direction == "maximize" else loss


def predicted_classes(scores: npt.NDArray[Any]) -> ClassArray:
    """The most probable class of each row, the first of equals: (n, k) -> (n,)."""
    if scores.shape[1] == 2:
        return (scores[:, 1] > scores[:, 0]).astype(np.int64)
    return np.asarray(scores.argmax(axis=1), dtype=np.int64)


def binary_roc_auc(is_positive: npt.NDArray[np.bool_], scores: npt.NDArray[Any]) -> float:
    """The share of (positive, negative) pairs in which the positive scores higher; ties count half. Shapes (n,).

    Raises:
        UndefinedMetric: there are only positives, or only negatives.
    """
    negatives, positives = np.sort(scores[~is_positive]), np.sort(scores[is_positive])
    if not len(negatives) or not len(positives):
        raise _undefined("roc_auc", "one class only among the rows", "measure where both classes occur")
    below = np.searchsorted(negatives, positives, side="left").sum(dtype=np.int64)
    not_above = np.searchsorted(negatives, positives, side="right").sum(dtype=np.int64)
    return (int(below) + int(not_above)) / (2 * len(positives) * len(negatives))


def confusion(y: ClassArray, predicted: ClassArray, num_classes: int) -> npt.NDArray[np.int64]:
    """Counts of rows by true class (axis 0) and predicted class (axis 1), (k, k)."""
    counts = np.bincount(y * num_classes + predicted, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes)


def _roc_auc(y: ClassArray, scores: FloatArray) -> float:
    """Two classes: of class 1. More: one against the rest, averaged over the classes that occur in y."""
    if scores.shape[1] == 2:
        return binary_roc_auc(y == 1, scores[:, 1])
    present = np.unique(y)
    return float(np.mean([binary_roc_auc(y == one, scores[:, one]) for one in present]))


def _accuracy(y: ClassArray, scores: FloatArray) -> float:
    return float(np.mean(predicted_classes(scores) == y))


def _balanced_accuracy(y: ClassArray, scores: FloatArray) -> float:
    """Recall averaged over the classes that occur in y."""
    counts = _confusion_of(y, scores)
    rows = counts.sum(axis=1)
    occurs = rows > 0
    if occurs.sum() < 2:
        raise _undefined("balanced_accuracy", "one class only among the rows", "measure where more classes occur")
    return float(np.mean(counts.diagonal()[occurs] / rows[occurs]))


def _precision(y: ClassArray, scores: FloatArray) -> float:
    """Two classes: of class 1. More: averaged over classes that occur or are predicted; never predicted counts as 0."""
    counts = _confusion_of(y, scores)
    predicted, rows = counts.sum(axis=0), counts.sum(axis=1)
    if len(counts) == 2:
        if not predicted[1]:
            raise _undefined("precision", "no row that is predicted positive", "use recall or f1, or a better model")
        return float(counts[1, 1] / predicted[1])
    counted = (rows + predicted) > 0
    return float(np.mean(counts.diagonal()[counted] / np.maximum(predicted[counted], 1)))


def _recall(y: ClassArray, scores: FloatArray) -> float:
    """Two classes: of class 1. More: averaged over the classes that occur in y."""
    counts = _confusion_of(y, scores)
    rows = counts.sum(axis=1)
    if len(counts) == 2:
        if not rows[1]:
            raise _undefined("recall", "no positive row", "measure where class 1 occurs")
        return float(counts[1, 1] / rows[1])
    return float(np.mean(counts.diagonal()[rows > 0] / rows[rows > 0]))


def _f1(y: ClassArray, scores: FloatArray) -> float:
    """Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN), of class 1 or averaged as precision is."""
    counts = _confusion_of(y, scores)
    total = counts.sum(axis=0) + counts.sum(axis=1)
    if len(counts) == 2:
        if not total[1]:
            raise _undefined("f1", "no positive row, true or predicted", "measure where class 1 occurs")
        return float(2 * counts[1, 1] / total[1])
    return float(np.mean(2 * counts.diagonal()[total > 0] / total[total > 0]))


def _log_loss(y: ClassArray, scores: FloatArray) -> float:
    """Mean of -ln P(true class), in nats."""
    own = scores[np.arange(len(y)), y]
    return float(-np.mean(np.log(np.clip(own, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY))))


def _brier(y: ClassArray, scores: FloatArray) -> float:
    """Mean squared error of the probabilities: of class 1 for two classes, summed over classes for more."""
    if scores.shape[1] == 2:
        return float(np.mean((scores[:, 1] - y) ** 2))
    own = scores[np.arange(len(y)), y]
    return float(np.mean((scores**2).sum(axis=1) - 2 * own + 1))


def _r2(y: FloatArray, scores: FloatArray) -> float:
    """1 - squared error / squared error of the mean."""
    if y.min() == y.max():
        raise _undefined("r2", "a target that does not vary over the rows", "measure rmse or mae")
    return 1.0 - float(((y - scores) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def _rmse(y: FloatArray, scores: FloatArray) -> float:
    return float(np.sqrt(np.mean((y - scores) ** 2)))


def _mae(y: FloatArray, scores: FloatArray) -> float:
    return float(np.mean(np.abs(y - scores)))


def _confusion_of(y: ClassArray, scores: FloatArray) -> npt.NDArray[np.int64]:
    return confusion(y, predicted_classes(scores), scores.shape[1])


def _undefined(name: str, why: str, fix: str) -> UndefinedMetric:
    return UndefinedMetric(f"{name} = undefined for {why}; {fix}.")


def _checked(name: str, formula: Measure, *, is_regression: bool) -> Measure:
    """`formula` behind checks of shape and finiteness, in and out."""

    def compute(y: npt.NDArray[Any], scores: npt.NDArray[Any]) -> float:
        if not len(y):
            raise _undefined(name, "no rows", "give it some")
        if is_regression:
            y, scores = np.asarray(y, dtype=np.float64), _flat(scores)
        else:
            y, scores = np.asarray(y, dtype=np.int64), np.asarray(scores, dtype=np.float64)
        _check(name, y, scores, is_regression=is_regression)
        with np.errstate(over="ignore", invalid="ignore"):
            value = formula(y, scores)
        if not np.isfinite(value):
            raise _undefined(name, "numbers so large that it overflows", "scale the target")
        return value

    return compute


def _flat(scores: npt.NDArray[Any]) -> FloatArray:
    values = np.asarray(scores, dtype=np.float64)
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def _check(name: str, y: npt.NDArray[Any], scores: FloatArray, *, is_regression: bool) -> None:
    wanted = 1 if is_regression else 2
    if y.ndim != 1 or scores.ndim != wanted or len(scores) != len(y):
        raise _undefined(name, f"y of shape {y.shape} with scores of shape {scores.shape}", "give one score a row")
    if not np.isfinite(scores).all() or (is_regression and not np.isfinite(y).all()):
        raise _undefined(name, "values that are NaN or infinite", "look for a training that diverged")
    if not is_regression and (scores.shape[1] < 2 or y.min() < 0 or y.max() >= scores.shape[1]):
        raise _undefined(
            name, f"classes {y.min()}..{y.max()} with {scores.shape[1]} columns of scores", "give one column a class"
        )


def _define(name: str, direction: Direction, tasks: frozenset[TaskKind], formula: Measure) -> MetricDefinition:
    compute = _checked(name, formula, is_regression=tasks == REGRESSION_TASKS)
    return MetricDefinition(name=name, direction=direction, tasks=tasks, compute=compute)


_DEFINITIONS = (
    _define("roc_auc", "maximize", CLASSIFICATION_TASKS, _roc_auc),
    _define("accuracy", "maximize", CLASSIFICATION_TASKS, _accuracy),
    _define("balanced_accuracy", "maximize", CLASSIFICATION_TASKS, _balanced_accuracy),
    _define("precision", "maximize", CLASSIFICATION_TASKS, _precision),
    _define("recall", "maximize", CLASSIFICATION_TASKS, _recall),
    _define("f1", "maximize", CLASSIFICATION_TASKS, _f1),
    _define("log_loss", "minimize", CLASSIFICATION_TASKS, _log_loss),
    _define("brier", "minimize", CLASSIFICATION_TASKS, _brier),
    _define("r2", "maximize", REGRESSION_TASKS, _r2),
    _define("rmse", "minimize", REGRESSION_TASKS, _rmse),
    _define("mae", "minimize", REGRESSION_TASKS, _mae),
)
METRICS: Mapping[str, MetricDefinition] = MappingProxyType({one.name: one for one in _DEFINITIONS})
