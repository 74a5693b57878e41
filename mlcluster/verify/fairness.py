"""How differently are groups treated? The largest difference in a rate between any two of them.

`equal_opportunity` compares recall (the rate of rightly predicted positives among positives), `demographic_parity` the
rate of predicted positives. Two classes only.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

import numpy as np
import numpy.typing as npt

from mlcluster.verify.estimates import MIN_POSITIVES, MIN_ROWS
from mlcluster.verify.intervals import Estimate, difference_of_proportions

Rate = tuple[int, int]
"""Successes and trials."""


def group_rates(
    metric: str,
    is_positive: npt.NDArray[np.bool_],
    predicted_positive: npt.NDArray[np.bool_],
    groups: Mapping[str, npt.NDArray[np.int64]],
) -> tuple[dict[str, Rate], list[str]]:
    """The rate that `metric` compares, of each group with enough rows; and what is wrong with the others."""
    rates: dict[str, Rate] = {}
    left_out: list[str] = []
    for label, rows in groups.items():
        counted = rows[is_positive[rows]] if metric == "equal_opportunity" else rows
        if len(rows) < MIN_ROWS:
            left_out.append(f"{label} ({len(rows)} rows)")
        elif len(counted) < MIN_POSITIVES:
            left_out.append(f"{label} ({len(counted)} positive rows)")
        else:
            rates[label] = (int(predicted_positive[counted].sum()), len(counted))
    return rates, left_out


def largest_difference(rates: Mapping[str, Rate], confidence: float) -> tuple[Estimate, tuple[str, str]]:
    """The largest difference between two of at least two rates, and the groups that show it, the higher one first.

    The upper bound is the largest over all pairs, in both orders: whichever pair truly differs most, its own bound is
    among them. For the lower bound the error is shared out over the pairs, because the best looking one is picked.
    """
    pairs = list(permutations(rates, 2))
    shared = 1.0 - (1.0 - confidence) / len(pairs)
    found = {pair: difference_of_proportions(rates[pair[0]], rates[pair[1]], confidence) for pair in pairs}
    careful = [difference_of_proportions(rates[one], rates[two], shared).lower for one, two in pairs]
    widest = max(pairs, key=lambda pair: found[pair].value)
    value = found[widest].value
    return (
        Estimate(
            value=value,
            lower=min(value, max(0.0, *careful)),
            upper=min(1.0, max(value, *(one.upper for one in found.values()))),
        ),
        widest,
    )
