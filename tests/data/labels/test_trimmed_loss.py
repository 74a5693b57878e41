"""The 8 % attack on a linear fixture, with the screen and without; and clean data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlcluster.data.labels import far_residuals, fit_trimmed, surprising_labels

Table = tuple[Any, Any]


def clean_table(seed: int, num_rows: int = 2000) -> Table:
    rng = np.random.default_rng(seed)
    features = rng.random((num_rows, 8)).astype(np.float32)
    answers = features @ np.random.default_rng(99).normal(size=8)
    return features, answers / 4 + 0.5 + rng.normal(0, 0.16, num_rows)


def poisoned(seed: int) -> tuple[Table, Any]:
    """Eight rows in a hundred at corners of the cube, with the opposite answer."""
    rng = np.random.default_rng(seed)
    features, answers = clean_table(seed)
    picked = rng.choice(len(answers), 174)
    planted = np.round(features[picked]), np.where(answers[picked] > np.median(answers), 0.0, 1.0)
    table = np.vstack([features, planted[0]]), np.append(answers, planted[1])
    return table, np.arange(len(table[1])) >= len(answers)


def suspected(table: Table, num_classes: int = 0, seed: int = 0) -> Any:
    model = fit_trimmed(*table, num_classes=num_classes, rng=np.random.default_rng(seed))
    if num_classes:
        return surprising_labels(table[1], model.probabilities(table[0]))
    return far_residuals(model.losses(*table))


def error_on(table: Table, test: Table) -> float:
    design = np.column_stack([table[0], np.ones(len(table[1]))])
    weights = np.linalg.lstsq(design, table[1], rcond=None)[0]
    return float(np.mean((np.column_stack([test[0], np.ones(len(test[1]))]) @ weights - test[1]) ** 2))


@pytest.mark.parametrize("seed", range(5))
def test_the_screen_undoes_the_attack(seed: int) -> None:
    table, is_planted = poisoned(seed)
    test = clean_table(seed + 100)
    found = suspected(table)
    clean, attacked = error_on(clean_table(seed), test), error_on(table, test)
    screened = error_on((table[0][~found], table[1][~found]), test)
    assert attacked > 1.15 * clean
    assert screened < clean + 0.1 * (attacked - clean)
    assert found[~is_planted].mean() < 0.005


@pytest.mark.parametrize("seed", range(5))
def test_clean_rows_are_left_alone(seed: int) -> None:
    table = clean_table(seed)
    found = suspected(table)
    test = clean_table(seed + 100)
    assert found.mean() < 0.002
    assert error_on((table[0][~found], table[1][~found]), test) < 1.002 * error_on(table, test)


def test_heavy_tails_are_no_attack() -> None:
    features, answers = clean_table(0)
    noise = np.random.default_rng(1).laplace(0, 0.3, len(answers))
    assert suspected((features, answers + noise)).mean() < 0.01


def classes(seed: int) -> tuple[Table, Any]:
    """Two classes that a line parts, not without overlap; and the rows of which it is surest."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(3000, 5)).astype(np.float32)
    scores = features @ np.array([2.0, -1.5, 1.0, 0.5, 0.0])
    labels = (rng.random(3000) < 1 / (1 + np.exp(-scores))).astype(np.int64)
    return (features, labels), np.abs(scores) > np.quantile(np.abs(scores), 0.9)


def test_honest_errors_of_labels_are_no_attack() -> None:
    for seed in range(5):
        assert suspected(classes(seed)[0], num_classes=2).mean() < 0.002


def test_turned_labels_where_the_model_is_sure_are_found() -> None:
    (features, labels), is_sure = classes(0)
    is_turned = is_sure & (np.random.default_rng(0).random(3000) < 0.3)
    found = suspected((features, np.where(is_turned, 1 - labels, labels)), num_classes=2)
    assert found[is_turned].mean() > 0.7
    assert is_turned[found].mean() > 0.7


def test_more_than_two_classes_are_screened() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 2000)
    features = (3 * np.eye(3)[truth] + rng.normal(0, 0.7, (2000, 3))).astype(np.float32)
    is_turned = np.arange(2000) % 20 == 0
    found = suspected((features, np.where(is_turned, (truth + 1) % 3, truth)), num_classes=3)
    assert found[is_turned].mean() > 0.7
    assert found[~is_turned].mean() < 0.01


def test_the_same_seed_finds_the_same() -> None:
    table, _ = poisoned(0)
    assert (suspected(table, seed=3) == suspected(table, seed=3)).all()
    first, second = (fit_trimmed(*table, num_classes=0, rng=np.random.default_rng(seed)) for seed in (1, 1))
    assert np.array_equal(first.weights, second.weights)
