"""scikit-learn is the oracle; what it answers with a NaN and a warning must raise here."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from mlcluster.errors import SpecError
from mlcluster.train.metrics import (
    METRICS,
    UndefinedMetric,
    as_loss,
    binary_roc_auc,
    default_metric,
    from_loss,
    predicted_classes,
    score,
)

Sample = tuple[np.ndarray, np.ndarray]


@st.composite
def binary_samples(draw: st.DrawFn) -> Sample:
    """Both classes occur; few distinct scores, so that ties are the rule."""
    size = draw(st.integers(2, 60))
    y = np.array(draw(st.lists(st.integers(0, 1), min_size=size, max_size=size)))
    assume(0 < y.sum() < size)
    positive = np.array(draw(st.lists(st.integers(0, 16), min_size=size, max_size=size))) / 16
    return y, np.stack([1 - positive, positive], axis=1)


@st.composite
def multiclass_samples(draw: st.DrawFn) -> Sample:
    """Three or four classes, of which at least two occur."""
    classes, size = draw(st.integers(3, 4)), draw(st.integers(4, 60))
    y = np.array(draw(st.lists(st.integers(0, classes - 1), min_size=size, max_size=size)))
    assume(len(np.unique(y)) >= 2)
    weights = np.random.default_rng(draw(st.integers(0, 2**20))).integers(1, 6, (size, classes))
    return y, weights / weights.sum(axis=1, keepdims=True)


@given(binary_samples())
def test_binary_measures_equal_scikit_learn(sample: Sample) -> None:
    y, scores = sample
    predicted = (scores[:, 1] > 0.5).astype(int)
    clipped = np.clip(scores[:, 1], np.finfo(np.float32).eps, 1 - np.finfo(np.float32).eps)
    expected = {
        "roc_auc": oracle.roc_auc_score(y, scores[:, 1]),
        "accuracy": oracle.accuracy_score(y, predicted),
        "balanced_accuracy": oracle.balanced_accuracy_score(y, predicted),
        "recall": oracle.recall_score(y, predicted),
        "f1": oracle.f1_score(y, predicted),
        "log_loss": oracle.log_loss(y, clipped, labels=[0, 1]),
        "brier": oracle.brier_score_loss(y, scores[:, 1]),
    }
    if predicted.any():
        expected["precision"] = oracle.precision_score(y, predicted)
    for name, value in expected.items():
        assert score(name, y, scores, 2) == pytest.approx(value, abs=1e-6), name


@given(multiclass_samples())
def test_multiclass_measures_equal_scikit_learn(sample: Sample) -> None:
    y, scores = sample
    classes, predicted, present = scores.shape[1], scores.argmax(axis=1), np.unique(y)
    one_hot = np.eye(classes)[y]
    expected = {
        "roc_auc": np.mean([oracle.roc_auc_score(y == one, scores[:, one]) for one in present]),
        "accuracy": oracle.accuracy_score(y, predicted),
        "recall": oracle.recall_score(y, predicted, average="macro", labels=present),
        "balanced_accuracy": oracle.recall_score(y, predicted, average="macro", labels=present),
        "precision": oracle.precision_score(y, predicted, average="macro", zero_division=0),
        "f1": oracle.f1_score(y, predicted, average="macro"),
        "log_loss": oracle.log_loss(y, scores, labels=range(classes)),
        "brier": ((scores - one_hot) ** 2).sum(axis=1).mean(),
    }
    for name, value in expected.items():
        assert score(name, y, scores, classes) == pytest.approx(value, abs=1e-6), name


def test_multiclass_roc_auc_equals_scikit_learn_one_versus_rest_when_all_classes_occur() -> None:
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, 200)
    scores = rng.dirichlet(np.ones(3), 200)
    assert score("roc_auc", y, scores) == pytest.approx(oracle.roc_auc_score(y, scores, multi_class="ovr"))


finite = st.floats(-1e6, 1e6, width=32)


@given(st.lists(st.tuples(finite, finite), min_size=2, max_size=40))
def test_regression_measures_equal_scikit_learn(pairs: list[tuple[float, float]]) -> None:
    y, scores = np.array(pairs, dtype=np.float64).T
    assert score("rmse", y, scores) == pytest.approx(oracle.root_mean_squared_error(y, scores))
    assert score("mae", y, scores[:, None]) == pytest.approx(oracle.mean_absolute_error(y, scores))
    if np.ptp(y) > 1e-3:
        assert score("r2", y, scores) == pytest.approx(oracle.r2_score(y, scores), rel=1e-6, abs=1e-6)


@given(binary_samples())
def test_roc_auc_depends_on_the_order_of_scores_only(sample: Sample) -> None:
    y, scores = sample
    assert binary_roc_auc(y == 1, scores[:, 1]) == binary_roc_auc(y == 1, np.exp(5 * scores[:, 1]))


@given(binary_samples())
def test_no_classification_measure_is_ever_nan(sample: Sample) -> None:
    y, scores = sample
    for name in ("roc_auc", "accuracy", "balanced_accuracy", "recall", "f1", "log_loss", "brier"):
        assert np.isfinite(score(name, y, scores))


TWO_ROWS = np.array([[0.9, 0.1], [0.8, 0.2]])


@pytest.mark.parametrize(
    ("name", "y", "scores", "reason"),
    [
        ("roc_auc", [1, 1], TWO_ROWS, "one class only"),
        ("balanced_accuracy", [0, 0], TWO_ROWS, "one class only"),
        ("precision", [0, 1], TWO_ROWS, "predicted positive"),
        ("recall", [0, 0], TWO_ROWS, "no positive row"),
        ("f1", [0, 0], TWO_ROWS, "no positive row"),
        ("accuracy", [], np.empty((0, 2)), "no rows"),
        ("accuracy", [0, 2], TWO_ROWS, "columns of scores"),
        ("accuracy", [0, 1, 1], TWO_ROWS, "one score a row"),
        ("log_loss", [0, 1], np.array([[0.5, 0.5], [np.nan, 0.5]]), "NaN or infinite"),
        ("r2", [0.1, 0.1, 0.1], np.zeros(3), "does not vary"),
        ("r2", [1.0], np.zeros(1), "does not vary"),
        ("rmse", [1.0, 2.0], np.array([np.inf, 0.0]), "NaN or infinite"),
        ("rmse", [1e300, 2.0], np.zeros(2), "overflows"),
        ("mae", [1.0, 2.0], TWO_ROWS, "one score a row"),
    ],
)
def test_what_has_no_value_raises_and_says_why(name: str, y: list[float], scores: np.ndarray, reason: str) -> None:
    with pytest.raises(UndefinedMetric, match=f"{name} = undefined for .*{reason}"):
        score(name, np.array(y), scores)


def test_an_unknown_measure_is_a_spec_error_that_lists_the_known_ones() -> None:
    with pytest.raises(SpecError, match="'auc' is no measure; use one of roc_auc"):
        score("auc", np.array([0, 1]), TWO_ROWS)


def test_a_wrong_number_of_columns_is_named() -> None:
    with pytest.raises(UndefinedMetric, match="2 columns of scores and 3 classes"):
        score("accuracy", np.array([0, 1]), TWO_ROWS, 3)


def test_a_better_value_is_a_lower_loss_for_every_measure() -> None:
    for name, metric in METRICS.items():
        worse, better = (0.2, 0.7) if metric.direction == "maximize" else (0.7, 0.2)
        assert as_loss(name, better) < as_loss(name, worse)
        assert from_loss(name, as_loss(name, better)) == pytest.approx(better)


def test_the_default_measure_of_a_task_measures_that_task() -> None:
    for task in ("binary", "multiclass", "regression"):
        assert task in METRICS[default_metric(task)].tasks


def test_an_even_row_is_of_the_first_class() -> None:
    assert predicted_classes(np.array([[0.5, 0.5], [0.4, 0.6]])).tolist() == [0, 1]
    assert predicted_classes(np.array([[0.3, 0.35, 0.35]])).tolist() == [1]


@settings(max_examples=5)
@given(st.integers(0, 2**20))
def test_roc_auc_of_100_000_rows_takes_milliseconds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    is_positive, scores = rng.random(100_000) < 0.3, rng.random(100_000).round(4)
    start = time.process_time()
    binary_roc_auc(is_positive, scores)
    assert time.process_time() - start < 0.5
