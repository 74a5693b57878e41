"""Quick models for the work of labelling: which rows are in doubt, and what was thought of labels by those unseen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlcluster.cli.quick_model import quick_scores
from mlcluster.train import Matrices, TrainingData

# Eight trees a unit: margins of 120 trees are fine enough to order by. Twenty rounds a unit.
_FOREST_UNITS = 15
_BOOSTING_UNITS = 5
_NUM_FOLDS = 5

Features = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]


def learn_and_ask(features: Features, codes: Codes, asked: Features, *, num_classes: int, seed: int) -> Probabilities:
    """What a forest, taught n rows (n, d) with classes `codes` (n,), makes of the rows asked about: (m, k)."""
    return _answers("forest", _FOREST_UNITS, Matrices(features=features, targets=codes), asked, (num_classes, seed))


def out_of_fold(features: Features, codes: Codes, *, num_classes: int, seed: int) -> Probabilities:
    """What boosting makes of each row (n, k), taught four fifths of the rows without it; folds are drawn by class."""
    fold_of = _folds(codes, np.random.default_rng(seed))
    probabilities = np.zeros((len(codes), num_classes))
    for fold in range(_NUM_FOLDS):
        is_out = fold_of == fold
        known = Matrices(features=features[~is_out], targets=codes[~is_out])
        asked = features[is_out]
        if len(asked):
            probabilities[is_out] = _answers("boosting", _BOOSTING_UNITS, known, asked, (num_classes, seed))
    return probabilities


def _folds(codes: Codes, rng: np.random.Generator) -> Codes:
    shuffled = rng.permutation(len(codes))
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
    fold_of = np.empty(len(codes), dtype=np.int64)
    fold_of[by_class] = np.arange(len(codes)) % _NUM_FOLDS
    return fold_of


def _answers(
    name: str, units: int, known: Matrices, asked: Features, classes_and_seed: tuple[int, int]
) -> Probabilities:
    num_classes, seed = classes_and_seed
    data = TrainingData(
        task="binary" if num_classes == 2 else "multiclass",
        num_classes=num_classes,
        train={"ordinal": known},
        validation={},
    )
    return quick_scores(name, units, data, asked, seed=seed)
