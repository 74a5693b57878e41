"""Every measure has bounds around the value that the search would see."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcluster.train import METRICS, score
from mlcluster.verify.estimates import estimate, shortage

CLASS_METRICS = [name for name, metric in METRICS.items() if "binary" in metric.tasks]


def sample(seed: int, rows: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, rows - classes)])
    scores = rng.dirichlet(np.ones(classes), rows) + 0.5 * np.eye(classes)[y]
    return y, scores / scores.sum(axis=1, keepdims=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**20), st.integers(30, 300), st.integers(2, 5), st.sampled_from(CLASS_METRICS))
def test_the_value_is_the_metric_and_lies_between_its_bounds(seed: int, rows: int, classes: int, metric: str) -> None:
    y, scores = sample(seed, rows, classes)
    found = estimate(metric, y, scores, confidence=0.95, rng=np.random.default_rng(0))
    assert found.value == score(metric, y, scores)
    assert found.lower < found.value < found.upper or found.value in (0.0, 1.0)
    assert found.upper - found.lower < 1.2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**20), st.integers(30, 300), st.sampled_from(["r2", "rmse", "mae"]))
def test_measures_of_a_regression_have_bounds_too(seed: int, rows: int, metric: str) -> None:
    rng = np.random.default_rng(seed)
    y = rng.normal(50, 3, rows)
    found = estimate(metric, y, (y + rng.normal(size=rows))[:, None], confidence=0.95, rng=rng)
    assert found.lower < found.value < found.upper


@pytest.mark.parametrize("metric", ["accuracy", "recall", "precision", "f1", "balanced_accuracy", "roc_auc"])
@pytest.mark.parametrize("classes", [2, 3])
def test_no_flaw_in_few_rows_does_not_prove_that_there_is_none(metric: str, classes: int) -> None:
    y = np.arange(45) % classes
    scores = 0.1 + 0.8 * np.eye(classes)[y]
    found = estimate(metric, y, scores, confidence=0.95, rng=np.random.default_rng(0))
    assert found.value == 1.0
    assert found.lower < 0.97


def test_more_rows_narrow_the_bounds() -> None:
    for metric in CLASS_METRICS:
        widths = []
        for rows in (100, 10_000):
            y, scores = sample(1, rows, 2)
            found = estimate(metric, y, scores, confidence=0.95, rng=np.random.default_rng(0))
            widths.append(found.upper - found.lower)
        assert widths[1] < widths[0] / 3, metric


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["f1", "balanced_accuracy", "log_loss", "brier"])
def test_lower_and_upper_bounds_hold_in_nine_of_ten_test_sets_or_more(metric: str) -> None:
    truth = score(metric, *sample(99, 400_000, 2))
    found = [estimate(metric, *sample(seed, 150, 2), confidence=0.95, rng=np.random.default_rng(seed))
             for seed in range(300)]  # fmt: skip
    assert np.mean([one.lower <= truth for one in found]) >= 0.9
    assert np.mean([one.upper >= truth for one in found]) >= 0.9


@pytest.mark.parametrize(
    ("metric", "y", "reason"),
    [
        ("accuracy", [0, 1] * 14, "28 rows, 30 are needed"),
        ("recall", [1] * 9 + [0] * 90, "9 positive rows, 10 are needed"),
        ("roc_auc", [1] * 90 + [0] * 9, "9 negative rows, 10 are needed"),
    ],
)
def test_too_few_rows_are_said(metric: str, y: list[int], reason: str) -> None:
    assert reason in str(shortage(metric, "binary", np.array(y)))


def test_enough_rows_are_not_complained_about() -> None:
    y = np.array([1] * 10 + [0] * 20)
    assert all(shortage(metric, "binary", y) is None for metric in CLASS_METRICS)
