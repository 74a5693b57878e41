"""How far annotators agree beyond chance: 1 for always, 0 for as often as chance would have it."""

from __future__ import annotations

import numpy as np

from mlcluster.data.labels.votes import ABSTAINED, FloatArray, Votes


def krippendorff_alpha(votes: Votes) -> float | None:
    """Krippendorff's alpha for classes: 1 - observed / expected disagreement; None without a row of two votes.

    Any number of votes a row; with as many votes in every row, Fleiss' kappa to within one part in the number of votes.
    K. Krippendorff, "Content Analysis", 4th edition, 2018, chapter 12.
    """
    counts = votes.counts()
    counts = counts[counts.sum(axis=1) >= 2]
    if not len(counts):
        return None
    sizes = counts.sum(axis=1)
    total = sizes.sum()
    observed = float(((sizes**2 - (counts**2).sum(axis=1)) / (sizes - 1)).sum())
    of_class = counts.sum(axis=0)
    expected = float((total**2 - (of_class**2).sum()) / (total - 1))
    return 1 - observed / expected if expected > 0 else 1.0


def cohen_kappas(votes: Votes) -> FloatArray:
    """Cohen's kappa of each pair of voters on the rows that both labelled, (m, m); NaN where there are none.

    J. Cohen, "A coefficient of agreement for nominal scales", 1960. 1 where both gave one and the same class only.
    """
    codes = votes.matrix()
    kappas = np.full((votes.num_voters, votes.num_voters), np.nan)
    for first in range(votes.num_voters):
        for second in range(first + 1, votes.num_voters):
            is_common = (codes[:, first] != ABSTAINED) & (codes[:, second] != ABSTAINED)
            if not is_common.any():
                continue
            one, other = codes[is_common, first], codes[is_common, second]
            shares = [np.bincount(each, minlength=votes.num_classes) / len(one) for each in (one, other)]
            observed, expected = float((one == other).mean()), float(shares[0] @ shares[1])
            kappa = (observed - expected) / (1 - expected) if expected < 1 else 1.0
            kappas[first, second] = kappas[second, first] = kappa
    return kappas
