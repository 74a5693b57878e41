"""Rows that a linear model of the rest cannot explain: what planted rows that pull a model away look like.

The model is fitted to the rows that it explains best, again and again, until they stay the same (TRIM: M. Jagielski et
al., "Manipulating machine learning", IEEE S&P 2018, algorithm 2, for regressions; the same with the log loss for
classes). TRIM is told how many rows are planted; here the fit leaves more out than a screen should have to find, and
the losses then say which rows are far off. What is far off is judged by the losses themselves, so that on clean data
hardly any row is.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

TRIMMED_SHARE = 0.2
"""What the fit leaves out: more than the 8 % that upset the models of the studies, less than a second concept."""

_MAX_ROUNDS = 20
_RIDGE = 1.0
# Multiples of the distance between the upper quartile and the 90th percentile, above the latter: 3.6 standard
# deviations of a normal distribution (3 rows in 10,000), and more where the tails are heavier.
_FAR = 4.0
# Rows as surprising as this are suspect when at most a quarter of them would be there if the model were right.
_FALSE_SHARE = 0.25
# Twice, not until nothing changes: each round without the last one's rows is surer, and soon doubts honest errors too.
_CALIBRATION_ROUNDS = 2

FloatArray = npt.NDArray[np.float64]
Features = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrimmedModel:
    """A linear model of the rows that fit together."""

    weights: FloatArray
    """(d, k): k columns for k > 2 classes, else one."""
    bias: FloatArray
    is_classifier: bool

    def losses(self, features: Features, targets: npt.NDArray[Any]) -> FloatArray:
        """Absolute residuals, or 1 - probability of the given class, (n,)."""
        outputs = features.astype(np.float64) @ self.weights + self.bias
        if not self.is_classifier:
            return np.asarray(np.abs(targets - outputs[:, 0]))
        return np.asarray(1 - _softmax(outputs)[np.arange(len(targets)), targets])

    def probabilities(self, features: Features) -> FloatArray:
        """Of a classifier, (n, k)."""
        return _softmax(features.astype(np.float64) @ self.weights + self.bias)


def fit_trimmed(
    features: Features, targets: npt.NDArray[Any], *, num_classes: int, rng: np.random.Generator
) -> TrimmedModel:
    """The model of the 80 % of rows (n, d) that it explains best; `num_classes` is 0 for a regression.

    A local search that starts at all rows and at random ones, of which the start with the least trimmed loss stays.
    Of classes, the best explained rows are taken class by class: else the rare class would be what is left out.
    """
    from threadpoolctl import threadpool_limits

    best, least = None, np.inf
    for start in (np.arange(len(targets)), rng.choice(len(targets), max(2, len(targets) // 2), replace=False)):
        if num_classes and len(np.unique(targets[start])) < len(np.unique(targets)):
            continue
        # One thread: the last bit of a sum hangs on their number, and a row at the bound on the last bit.
        with threadpool_limits(limits=1):
            model, loss = _search(features, targets, start, num_classes)
        if loss < least:
            best, least = model, loss
    assert best is not None  # the start at all rows has all classes
    return best


def far_residuals(residuals: FloatArray) -> npt.NDArray[np.bool_]:
    """Absolute residuals far beyond their 90th percentile, (n,); what is found is left out of it, until no more is."""
    is_far = np.zeros(len(residuals), dtype=np.bool_)
    for _ in range(_MAX_ROUNDS):
        upper, high = np.quantile(residuals[~is_far], [0.75, 0.9])
        new = (residuals > high + _FAR * (high - upper)) & (high > upper)
        if (new == is_far).all():
            break
        is_far = new
    return is_far


def surprising_labels(given: npt.NDArray[np.int64], probabilities: FloatArray) -> npt.NDArray[np.bool_]:
    """Labels that the model all but excludes, (n,), where there are far more of them than it expects itself.

    A model that is right gives 1 % to labels that come up once in a hundred times. The bound is the highest under
    which the expected number of such labels is at most a quarter of what there is (an empirical false discovery rate,
    B. Efron, "Large-scale inference", 2010, chapter 4). The model was fitted to the rows that it explains best, and is
    too sure: its probabilities are first calibrated by all rows, and once more without those that are found.
    """
    logs = np.log(np.maximum(probabilities, 1e-300))
    is_found = np.zeros(len(given), dtype=np.bool_)
    for _ in range(_CALIBRATION_ROUNDS):
        calibrated = _calibrated(logs, given, is_found)
        new = _below_bound(calibrated[np.arange(len(given)), given], calibrated)
        if (new == is_found).all():
            break
        is_found = new
    return is_found


def _below_bound(given: FloatArray, probabilities: FloatArray) -> npt.NDArray[np.bool_]:
    ordered, possible = np.sort(given), np.sort(probabilities.ravel())
    expected = np.concatenate([[0.0], np.cumsum(possible)])[np.searchsorted(possible, ordered, side="right")]
    found = np.arange(1, len(ordered) + 1)
    # One label may be there by chance where none is expected: three are asked for.
    is_clear = (expected <= _FALSE_SHARE * found) & (found >= 3)
    if not is_clear.any():
        return np.zeros(len(given), dtype=np.bool_)
    return np.asarray(given <= ordered[np.flatnonzero(is_clear)[-1]])


def _calibrated(logs: FloatArray, given: npt.NDArray[np.int64], is_found: npt.NDArray[np.bool_]) -> FloatArray:
    """Probabilities (n, k) from log probabilities, by the factor and shifts that make the labels most probable.

    Of the labels that are not found yet. A shift for each class too: where the fit has left out a fifth of a rare
    class, it takes the rest of it for rarer than it is.
    """
    from scipy.optimize import minimize

    known, truth = logs[~is_found], np.eye(logs.shape[1])[given[~is_found]]

    def loss_and_slope(parameters: FloatArray) -> tuple[float, FloatArray]:
        scaled = known * np.exp(parameters[0])
        probabilities = _softmax(scaled + parameters[1:])
        off = (probabilities - truth) / len(known)
        loss = -np.log((probabilities * truth).sum(axis=1) + 1e-300).mean()
        return float(loss), np.concatenate([[(off * scaled).sum()], off.sum(axis=0)])

    start = np.zeros(1 + logs.shape[1])
    bounds = [(-5.0, 1.0), *[(-20.0, 20.0)] * logs.shape[1]]
    fitted = minimize(loss_and_slope, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    return _softmax(logs * np.exp(fitted[0]) + fitted[1:])


def _search(
    features: Features, targets: npt.NDArray[Any], start: npt.NDArray[np.intp], num_classes: int
) -> tuple[TrimmedModel, float]:
    kept = start
    for _ in range(_MAX_ROUNDS):
        model = _fit(features[kept], targets[kept], num_classes)
        losses = model.losses(features, targets)
        new = _best_explained(losses, targets, num_classes)
        if np.array_equal(new, kept):
            break
        kept = new
    return model, float(losses[kept].sum())


def _best_explained(losses: FloatArray, targets: npt.NDArray[Any], num_classes: int) -> npt.NDArray[np.intp]:
    groups = [np.flatnonzero(targets == label) for label in range(num_classes)] or [np.arange(len(losses))]
    kept = []
    for group in groups:
        size = len(group) - int(TRIMMED_SHARE * len(group))
        kept.append(group[np.argsort(losses[group], kind="stable")[:size]])
    return np.sort(np.concatenate(kept))


def _fit(features: Features, targets: npt.NDArray[Any], num_classes: int) -> TrimmedModel:
    if not num_classes:
        return _ridge(features.astype(np.float64), targets)
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # The rows that it explains best settle long before the last digit does.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = LogisticRegression(C=1.0, max_iter=50).fit(features, targets)
    weights, bias = np.zeros((features.shape[1], num_classes)), np.full(num_classes, -50.0)
    if len(fitted.classes_) == 2:
        first, second = fitted.classes_
        weights[:, second], bias[first], bias[second] = fitted.coef_[0], 0.0, fitted.intercept_[0]
    else:
        weights[:, fitted.classes_], bias[fitted.classes_] = fitted.coef_.T, fitted.intercept_
    return TrimmedModel(weights=weights, bias=bias, is_classifier=True)


def _ridge(features: FloatArray, targets: FloatArray) -> TrimmedModel:
    center, middle = features.mean(axis=0), float(targets.mean())
    shifted = features - center
    gram = shifted.T @ shifted + _RIDGE * np.eye(features.shape[1])
    weights = np.linalg.solve(gram, shifted.T @ (targets - middle))
    return TrimmedModel(weights=weights[:, None], bias=np.array([middle - center @ weights]), is_classifier=False)


def _softmax(outputs: FloatArray) -> FloatArray:
    likelihood = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return np.asarray(likelihood / likelihood.sum(axis=1, keepdims=True))
