"""Label functions without ground truth: how good each is, and what they say together.

Functions err together where they look at the same thing, and voters who copy each other look reliable to any model
that takes them for independent. Each pair's chance-corrected agreement is therefore held against what the pair's
accuracies explain (the triplets of Fu et al., "Fast and three-rious", ICML 2020: with independent errors it is the
product of the two functions' agreements with the truth, and any third function tells them). What is left over is
copying, and copied votes count for less in the EM of `dawid_skene`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any

import numpy as np

from mlcluster.data.labels.consensus import accuracies, dawid_skene
from mlcluster.data.labels.independence import may_tell_shares
from mlcluster.data.labels.votes import ABSTAINED, Codes, FloatArray, Votes, majority

# Pairs with fewer rows in common tell nothing of copying.
_MIN_COMMON_ROWS = 50
MIN_KNOWN = 30
"""Known labels from which on functions are judged by them."""
# An excess of agreement is copying from this many standard errors on, and from this size on.
_MIN_STANDARD_ERRORS = 4.0
_MIN_EXCESS = 0.1
_SAME = 0.9
_STRENGTH_ROUNDS = 60
_MAX_TRIPLETS = 500
# Below it a triplet tells nothing but noise.
_LEAST_CORRELATION = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class FunctionQuality:
    """One label function; shares are of all rows that were shown to the functions."""

    name: str
    coverage_share: float
    """Rows that it labels."""
    overlap_share: float
    """Rows that it and another one label."""
    conflict_share: float
    """Rows that it and another one label differently."""
    accuracy: float
    """Estimated share of its labels that are right; NaN where it labels nothing."""
    weight: float
    """What one of its votes counts: 1 for a function that errs on its own, 1/c for each of c copies."""
    known_accuracy: float | None = None
    """The same on the rows whose label is known, where there are any."""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "coverage_share": self.coverage_share,
            "overlap_share": self.overlap_share,
            "conflict_share": self.conflict_share,
            "accuracy": None if np.isnan(self.accuracy) else self.accuracy,
            "weight": self.weight,
            "known_accuracy": self.known_accuracy,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelModel:
    """What label functions say together: `posterior` (n, k), and `is_covered` (n,), whether any had a say."""

    functions: tuple[FunctionQuality, ...]
    posterior: FloatArray
    is_covered: np.ndarray[Any, np.dtype[np.bool_]]


def fit_label_model(
    codes: Codes,
    *,
    names: tuple[str, ...],
    num_classes: int,
    known: Codes | None = None,
    priors: FloatArray | None = None,
) -> LabelModel:
    """From the functions' labels, (n, m) with `ABSTAINED`, to probabilities and each function's quality.

    `known` (n,) holds the labels of rows that are known, else `ABSTAINED`. `priors` (k,) is how frequent each class is,
    which functions that mostly name one class tell badly. Without it, from 30 known labels on, their shares are taken,
    else those of the majority votes, or, of functions that err on their own as far as one can tell (`independence`),
    those that EM learns: where it does not hold, learned shares have run away to the wrong class on real rules.
    """
    votes = Votes.of_matrix(codes, num_classes=num_classes)
    weights = vote_weights(codes, num_classes=num_classes)
    if priors is None:
        priors = _class_shares(codes, votes, weights, known)
    consensus = dawid_skene(votes, weights=weights, silence_tells=True, known=known, priors=priors)
    estimated = accuracies(votes, consensus.posterior)
    has_label = codes != ABSTAINED
    num_labels = has_label.sum(axis=1)
    is_split = (votes.counts() > 0).sum(axis=1) > 1
    functions = []
    for index, name in enumerate(names):
        is_given = has_label[:, index]
        is_told = is_given & (known != ABSTAINED) if known is not None else np.zeros(len(codes), dtype=np.bool_)
        is_right = codes[:, index] == known if known is not None else is_told
        functions.append(
            FunctionQuality(
                name=name,
                coverage_share=float(is_given.mean()),
                overlap_share=float((is_given & (num_labels > 1)).mean()),
                conflict_share=float((is_given & is_split).mean()),
                accuracy=float(estimated[index]),
                weight=float(weights[index]),
                known_accuracy=float(is_right[is_told].mean()) if is_told.any() else None,
            )
        )
    return LabelModel(functions=tuple(functions), posterior=consensus.posterior, is_covered=num_labels > 0)


def _class_shares(codes: Codes, votes: Votes, weights: FloatArray, known: Codes | None) -> FloatArray:
    """How frequent each class is, (k,)."""
    counts = np.bincount(known[known != ABSTAINED], minlength=votes.num_classes) if known is not None else np.zeros(0)
    if counts.sum() >= MIN_KNOWN:
        return np.asarray((counts + 1) / (counts + 1).sum())
    is_covered = votes.counts().sum(axis=1) > 0
    counts = majority(votes, weights)[is_covered].sum(axis=0) if is_covered.any() else np.zeros(votes.num_classes)
    by_majority = np.asarray((counts + 1) / (counts + 1).sum())
    if votes.num_classes != 2:
        return by_majority
    learned = dawid_skene(votes, weights=weights, silence_tells=True, known=known).priors
    return learned if may_tell_shares(codes, weights, by_majority=by_majority, learned=learned) else by_majority


def vote_weights(codes: Codes, *, num_classes: int) -> FloatArray:
    """What one vote of each function counts, (m,): 1 / (1 + the sum of how far each other one copies it)."""
    correlation, common = _correlations(codes, num_classes)
    # Two that say the same are one: where both are nearly always right, nothing is lost by it.
    is_same = np.nan_to_num(correlation) > _SAME
    strength = _strengths(np.where(is_same, np.nan, correlation))
    explained = np.outer(strength, strength)
    excess = np.nan_to_num(correlation - explained)
    is_copying = (excess > _MIN_EXCESS) & (excess > _MIN_STANDARD_ERRORS / np.sqrt(np.maximum(common, 1)))
    copied = np.where(is_copying, np.clip(excess / np.maximum(1 - explained, 1e-9), 0, 1), 0.0)
    return np.asarray(1 / (1 + np.where(is_same, 1.0, copied).sum(axis=1)))


def _correlations(codes: Codes, num_classes: int) -> tuple[FloatArray, FloatArray]:
    """Of each pair, on the rows that both label: the correlation of their labels, and the number of those rows.

    With more than two classes, of the labels as indicators. NaN on too few rows, where a function has one label only,
    and on the diagonal. For two classes and independent errors it is a product of two numbers, one a function.
    """
    num_functions = codes.shape[1]
    correlation = np.full((num_functions, num_functions), np.nan)
    common = np.zeros((num_functions, num_functions))
    for first in range(num_functions):
        for second in range(first + 1, num_functions):
            is_common = (codes[:, first] != ABSTAINED) & (codes[:, second] != ABSTAINED)
            common[first, second] = common[second, first] = is_common.sum()
            if is_common.sum() < _MIN_COMMON_ROWS:
                continue
            one, other = (np.eye(num_classes)[codes[is_common, index]] for index in (first, second))
            one, other = one - one.mean(axis=0), other - other.mean(axis=0)
            norm = float(np.sqrt((one**2).sum() * (other**2).sum()))
            if norm > 0:
                correlation[first, second] = correlation[second, first] = float((one * other).sum()) / norm
    return correlation, common


def _strengths(correlation: FloatArray) -> FloatArray:
    """The numbers a (m,) whose products explain the most correlations; those that copies leave unexplained be.

    Each of up to 500 triplets of functions proposes: a third function tells the strength of two. A proposal is as
    good as the sum of its misses, each counted up to a cap, so that a few wild pairs cost the same wherever they lie.
    The best is then fitted to the pairs that it explains. NaN without any triplet: of two functions that agree, nothing
    tells whether they copy each other or are both right.
    """
    is_there = ~np.isnan(correlation)
    values = np.where(is_there, correlation, 0.0)
    best, least = np.full(len(values), np.nan), np.inf
    for triplet in islice(_spread_triplets(len(values)), _MAX_TRIPLETS):
        proposal = _from_triplet(values, list(triplet))
        if proposal is None:
            continue
        cost = float(np.minimum(np.abs(values - np.outer(proposal, proposal)), _MIN_EXCESS)[is_there].sum())
        if cost < least:
            best, least = proposal, cost
    for _ in range(_STRENGTH_ROUNDS):
        weight = is_there & (np.abs(values - np.outer(best, best)) < _MIN_EXCESS)
        fitted = (weight * values) @ best / np.maximum(weight @ best**2, 1e-12)
        best = np.where(weight.any(axis=1), np.clip(0.5 * (best + fitted), 0.0, 1.0), best)
    return best


def _spread_triplets(num_functions: int) -> Iterator[tuple[int, int, int]]:
    """All triplets, in an order that mixes the functions, the same at each call."""
    triplets = list(combinations(range(num_functions), 3))
    yield from (triplets[place] for place in np.random.default_rng(0).permutation(len(triplets)))


def _from_triplet(values: FloatArray, triplet: list[int]) -> FloatArray | None:
    first, second, third = values[triplet, np.roll(triplet, -1)]  # of the pairs 01, 12 and 20
    if min(first, second, third) < _LEAST_CORRELATION:
        return None
    seen = np.sqrt(np.array([first * third / second, first * second / third, second * third / first]))
    seen = np.clip(seen, 0.0, 1.0)
    strength = values[:, triplet] @ seen / (seen**2).sum()
    # For a member of the triplet, its own place is empty: two of the three pairs tell it.
    strength[triplet] = seen
    return np.asarray(np.clip(strength, 0.0, 1.0))
