"""Which hyperparameters mattered: how much worse a forest foretells a trial's rank once one of them is shuffled.

Compared at the first rung of each trial, where all stand and have cost the same: at a later one, only those that did
well do. Ranks rather than losses, for one trial that diverged would else be all that there is to explain. The forest is
asked about trials that it has not seen, and where it cannot foretell them it is not believed (Breiman, Machine Learning
45(1), 2001, section 10, on held-out folds).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlcluster.tune.story import TrialStory

MIN_TRIALS = 20
"""With fewer, chance alone decides which hyperparameter seems to matter."""
MIN_EXPLAINED_SHARE = 0.1
_FOLDS, _TREES, _SHUFFLES = 3, 48, 4

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyImportance:
    """`shares` are by hyperparameter, the most important first, and add up to 1; empty where nothing can be said."""

    family: str
    num_trials: int
    """With a loss at their first rung."""
    shares: Mapping[str, float]
    explained_share: float | None
    """Of the variance of the ranks of trials that the forest had not seen (R squared)."""
    caveat: str | None
    """Why nothing can be said."""


def hyperparameter_importance(family: str, trials: Sequence[TrialStory], *, seed: int) -> FamilyImportance:
    """Of the trials of one family; the same trials and seed give the same numbers."""
    rows = [(trial, loss) for trial in trials if (loss := _first_loss(trial)) is not None]
    names = sorted({name for trial, _ in rows for name in trial.configuration})
    features = np.array([_column([trial.configuration.get(name) for trial, _ in rows]) for name in names]).T
    varied = [index for index in range(len(names)) if len(np.unique(features[:, index])) > 1]

    def unsaid(caveat: str, explained_share: float | None = None) -> FamilyImportance:
        return FamilyImportance(
            family=family, num_trials=len(rows), shares={}, explained_share=explained_share, caveat=caveat
        )

    if len(rows) < MIN_TRIALS:
        return unsaid(f"too few trials: {len(rows)} with a score, and {MIN_TRIALS} are needed")
    if not varied:
        return unsaid("its trials all had the same configuration")
    ranks = _ranks(np.array([loss for _, loss in rows]))
    explained, drops = _permuted(features[:, varied], ranks, seed=seed)
    if explained < MIN_EXPLAINED_SHARE or not drops.any():
        return unsaid(f"its hyperparameters do not foretell the rank of a trial (R² {explained:.2f})", explained)
    shares = dict(zip([names[index] for index in varied], (drops / drops.sum()).tolist(), strict=True))
    ordered = dict(sorted(shares.items(), key=lambda item: -item[1]))
    return FamilyImportance(family=family, num_trials=len(rows), shares=ordered, explained_share=explained, caveat=None)


def _first_loss(trial: TrialStory) -> float | None:
    loss = next((one.loss for one in trial.segments if one.loss is not None), None)
    return loss if loss is not None and math.isfinite(loss) else None


def _column(values: Sequence[object]) -> Array:
    """Numbers as they are, others by their place in the alphabet; what is missing or not finite is below all."""
    is_numeric = all(value is None or isinstance(value, int | float) for value in values)
    if is_numeric:
        numbers = np.array([_number(value) for value in values])
        finite = numbers[np.isfinite(numbers)]
        below = finite.min() - 1.0 if len(finite) else 0.0
        return np.where(np.isfinite(numbers), numbers, below)
    words = [repr(value) for value in values]
    places = {word: place for place, word in enumerate(sorted(set(words)))}
    return np.array([float(places[word]) for word in words])


def _number(value: object) -> float:
    """NaN for what is missing, or larger than a float can be."""
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.nan


def _ranks(losses: Array) -> Array:
    """Between 0 and 1, the mean of their places for equal losses."""
    from scipy.stats import rankdata

    ranks: Array = rankdata(losses) / len(losses)
    return ranks


def _permuted(features: Array, ranks: Array, *, seed: int) -> tuple[float, Array]:
    """R squared on held-out folds, and how far it falls (at least 0) once each column (d) is shuffled."""
    from sklearn.ensemble import RandomForestRegressor

    rng = np.random.default_rng(seed)
    folds = rng.permutation(len(ranks)) % _FOLDS
    total = float(((ranks - ranks.mean()) ** 2).sum())
    if total == 0.0:
        return 0.0, np.zeros(features.shape[1])
    squared, shuffled = 0.0, np.zeros(features.shape[1])
    for fold in range(_FOLDS):
        held = folds == fold
        forest = RandomForestRegressor(_TREES, min_samples_leaf=2, max_features=0.6, random_state=seed % 2**32)
        forest.fit(features[~held], ranks[~held])
        squared += float(((forest.predict(features[held]) - ranks[held]) ** 2).sum())
        answers = forest.predict(_shuffles(features[held], rng))
        errors = (answers.reshape(features.shape[1], _SHUFFLES, -1) - ranks[held]) ** 2
        shuffled += errors.sum(axis=2).mean(axis=1)
    return 1.0 - squared / total, np.maximum(0.0, shuffled - squared)


def _shuffles(features: Array, rng: np.random.Generator) -> Array:
    """For each column, the rows (n, d) a few times over with that column shuffled: (d * times * n, d), in one batch."""
    copies = np.tile(features, (features.shape[1] * _SHUFFLES, 1))
    num_rows = len(features)
    for index in range(features.shape[1] * _SHUFFLES):
        rows = slice(index * num_rows, (index + 1) * num_rows)
        column = index // _SHUFFLES
        copies[rows, column] = rng.permutation(features[:, column])
    return copies
