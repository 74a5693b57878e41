"""Votes whose truth is known, since it was planted."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlcluster.data.labels import ABSTAINED, Votes

Codes = np.ndarray[Any, np.dtype[np.int64]]


def agreeing_functions(seed: int, num_rows: int = 2000) -> tuple[Codes, Codes]:
    """Ten functions of accuracy 0.55 to 0.9 that label half of the rows each and err on their own; two classes."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, num_rows)
    return truth, _codes(truth, rng.uniform(0.55, 0.9, 10), np.full(10, 0.5), rng)


def uneven_functions(seed: int, num_rows: int = 2000) -> tuple[Codes, Codes]:
    """The same where one class has 80 % of the rows."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(num_rows) < 0.2).astype(np.int64)
    return truth, _codes(truth, rng.uniform(0.55, 0.9, 10), np.full(10, 0.5), rng)


def copied_functions(seed: int, num_rows: int = 2000) -> tuple[Codes, Codes]:
    """Five functions that err on their own (0.7 to 0.8), and one of 0.6 that two others copy nine times in ten."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, num_rows)
    codes = _codes(truth, np.array([0.6, 0.6, 0.6, 0.7, 0.75, 0.8, 0.7, 0.75]), np.full(8, 0.6), rng)
    for copy in (1, 2):
        codes[:, copy] = np.where(rng.random(num_rows) < 0.9, codes[:, 0], codes[:, copy])
    return truth, codes


def one_sided_functions(seed: int, num_rows: int = 2000) -> tuple[Codes, Codes]:
    """Six functions that name one class or are silent, right nine times in ten in a class; classes are 80 to 20."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(num_rows) < 0.2).astype(np.int64)
    codes = _codes(truth, np.full(6, 0.9), np.full(6, 0.6), rng)
    for function, label in enumerate((1, 1, 0, 0, 1, 0)):
        codes[codes[:, function] != label, function] = ABSTAINED
    return truth, codes


def annotators(seed: int, lot_share: float, num_rows: int = 500) -> tuple[Codes, Votes]:
    """Twenty annotators with confusion matrices of their own, five answers a row, four classes of unequal size.

    Right 0.5 to 0.9 of the time, by class; wrong mostly into one class of their own. `lot_share` of them answer by lot.
    """
    rng = np.random.default_rng(seed)
    num_annotators, num_classes = 20, 4
    truth = rng.choice(num_classes, num_rows, p=[0.4, 0.3, 0.2, 0.1])
    confusions = np.stack([_confusion(num_classes, rng) for _ in range(num_annotators)])
    confusions[: round(lot_share * num_annotators)] = 1 / num_classes
    items = np.repeat(np.arange(num_rows), 5)
    voters = np.concatenate([rng.choice(num_annotators, 5, replace=False) for _ in range(num_rows)])
    shares = confusions[voters, truth[items]].cumsum(axis=1)
    labels = (rng.random(len(items))[:, None] > shares).sum(axis=1)
    votes = Votes(
        items=items,
        voters=voters,
        labels=np.minimum(labels, num_classes - 1),
        num_items=num_rows,
        num_voters=num_annotators,
        num_classes=num_classes,
    )
    return truth, votes


def _confusion(num_classes: int, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float64]]:
    matrix = rng.dirichlet(np.full(num_classes, 0.3), num_classes)
    right = rng.uniform(0.5, 0.9, num_classes)
    mixed = matrix * (1 - right)[:, None]
    mixed[np.arange(num_classes), np.arange(num_classes)] += right
    return mixed


def _codes(truth: Codes, accuracies: Any, coverages: Any, rng: np.random.Generator) -> Codes:
    shape = (len(truth), len(accuracies))
    codes = np.where(rng.random(shape) < accuracies, truth[:, None], 1 - truth[:, None])
    codes[rng.random(shape) > coverages] = ABSTAINED
    return codes
