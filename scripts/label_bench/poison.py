"""The 8 % attack on a linear fixture, with the screen and without."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlcluster.data.labels import far_residuals, fit_trimmed, surprising_labels

Table = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


def linear_table(rng: np.random.Generator, num_rows: int, noise: float) -> Table:
    """Ten features in [0, 1], and a linear answer in about [0, 1] with normal noise."""
    features = rng.random((num_rows, 10)).astype(np.float32)
    answers = features @ rng.normal(size=10)
    return features, (answers - answers.min()) / np.ptp(answers) + rng.normal(0, noise, num_rows)


def attacked(rng: np.random.Generator, table: Table, share: float) -> tuple[Table, Mask]:
    """The table with `share` of planted rows: the corners of the cube nearest to real rows, with answers turned.

    The starting points of M. Jagielski et al., IEEE S&P 2018 (inverse flipping), at their rounding of features.
    """
    features, answers = table
    num_planted = round(share * len(answers) / (1 - share))
    picked = rng.choice(len(answers), num_planted)
    planted = np.round(features[picked]), np.where(answers[picked] > 0.5, 0.0, 1.0)
    is_planted = np.arange(len(answers) + num_planted) >= len(answers)
    return (np.vstack([features, planted[0]]), np.append(answers, planted[1])), is_planted


def attacked_scores(seed: int, noise: float) -> dict[str, float]:
    """Mean squared errors on clean test rows, and what the screen finds."""
    rng = np.random.default_rng(seed)
    features, answers = linear_table(rng, 4000, noise)
    clean, test = (features[:2000], answers[:2000]), (features[2000:], answers[2000:])
    dirty, is_planted = attacked(rng, clean, 0.08)
    found, alarms = screened(dirty, rng), screened(clean, rng)
    base = test_error(clean, test)
    return {
        "error_clean": base,
        "error_attacked": test_error(dirty, test),
        "error_screened": test_error((dirty[0][~found], dirty[1][~found]), test),
        "error_clean_screened": test_error((clean[0][~alarms], clean[1][~alarms]), test),
        "harm_removed_share": 1
        - (test_error((dirty[0][~found], dirty[1][~found]), test) - base) / (test_error(dirty, test) - base),
        "recall": float(found[is_planted].mean()),
        "false_share": float(found[~is_planted].mean()),
        "false_share_clean": float(alarms.mean()),
    }


def screened(table: Table, rng: np.random.Generator) -> Mask:
    """The rows that the screen would quarantine."""
    model = fit_trimmed(*table, num_classes=0, rng=rng)
    return far_residuals(model.losses(*table))


def test_error(table: Table, test: Table) -> float:
    """Of a ridge regression, the model that the study attacks."""
    from sklearn.linear_model import Ridge

    return float(np.mean((Ridge(alpha=1.0).fit(*table).predict(test[0]) - test[1]) ** 2))


def attacked_classes_scores(seed: int) -> dict[str, float]:
    """Accuracies on clean test rows of a logistic fixture in which 8 % of the labels are turned, where it is surest."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(6000, 5)).astype(np.float32)
    scores = features @ np.array([2.0, -1.5, 1.0, 0.5, 0.0])
    labels = (rng.random(6000) < 1 / (1 + np.exp(-scores))).astype(np.int64)
    train, test = (features[:3000], labels[:3000]), (features[3000:], labels[3000:])
    surest = np.argsort(-np.abs(scores[:3000]))[:600]
    is_turned = np.zeros(3000, dtype=np.bool_)
    is_turned[rng.choice(surest, 240, replace=False)] = True
    dirty = train[0], np.where(is_turned, 1 - train[1], train[1])
    found, alarms = (screened_classes(table, rng) for table in (dirty, train))
    return {
        "loss_clean": test_loss(train, test),
        "loss_attacked": test_loss(dirty, test),
        "loss_screened": test_loss((dirty[0][~found], dirty[1][~found]), test),
        "loss_clean_screened": test_loss((train[0][~alarms], train[1][~alarms]), test),
        "recall": float(found[is_turned].mean()),
        "precision": float(is_turned[found].mean()) if found.any() else 0.0,
        "false_share_clean": float(alarms.mean()),
    }


def screened_classes(table: Table, rng: np.random.Generator) -> Mask:
    """The rows that the screen would quarantine."""
    model = fit_trimmed(*table, num_classes=2, rng=rng)
    return surprising_labels(table[1], model.probabilities(table[0]))


def test_loss(table: Table, test: Table) -> float:
    """Log loss of a logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    return float(log_loss(test[1], LogisticRegression().fit(*table).predict_proba(test[0])))
