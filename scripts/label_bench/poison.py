"""The 8 % attack on a linear fixture, with the screen and without."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlcluster.data.labels import far_residuals, fit_trimmed

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
