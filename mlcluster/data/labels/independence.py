"""Whether label functions err on their own, as far as their votes tell, so that they may tell how frequent classes are.

Where functions err independently, EM finds the shares of the classes by itself. Where they look at the same things, it
finds whatever two groups explain the votes best: on rules of thumb for adult it takes 24 % for 69 %. Two signs of that
need no truth. With two classes and independent errors, correlations of votes are products of two numbers, one a
function; what they miss by is measured. And a majority of functions that err pulls shares towards a half, so that the
truth lies beyond what the majority says; shares that EM finds on its near side were not found in the classes.
"""

from __future__ import annotations

import numpy as np

from mlcluster.data.labels.votes import ABSTAINED, Codes, FloatArray

# Independent functions miss by about 0.9 / sqrt(n): 0.02 for 2,000 rows. Of five sets of rules on real tables, four
# miss by 0.06 to 0.11, and one by 0.04.
_MAX_MISS = 0.05
_ROUNDS = 300


def may_tell_shares(codes: Codes, weights: FloatArray, *, by_majority: FloatArray, learned: FloatArray) -> bool:
    """Whether the shares that EM has learned, (2,), are to be believed rather than the majority's.

    `codes` (n, m) with `ABSTAINED` are of two classes, `weights` (m,) below 1 for functions that copy each other.
    """
    top = int(by_majority.argmax())
    return bool(learned[top] >= by_majority[top]) and unexplained_correlation(codes, weights) < _MAX_MISS


def unexplained_correlation(codes: Codes, weights: FloatArray) -> float:
    """Root mean square of what a product of two numbers leaves of the correlations of votes, over degrees of freedom.

    A vote is 1 or -1 by its class, silence is 0: means of that by class are straight in the class, whatever a function
    does. Pairs that copy each other do not count. Infinity where there are too few pairs to tell, as of three.
    """
    scores = np.where(codes == ABSTAINED, 0.0, 2.0 * codes - 1.0)
    scores -= scores.mean(axis=0)
    deviations = scores.std(axis=0)
    is_used = deviations > 0
    scores, is_copy = scores[:, is_used] / deviations[is_used], weights[is_used] < 1 - 1e-9
    num_functions = scores.shape[1]
    is_pair = ~np.eye(num_functions, dtype=np.bool_) & ~np.outer(is_copy, is_copy)
    freedom = is_pair.sum() / 2 - num_functions
    if freedom <= 0:
        return float("inf")
    correlations = np.where(is_pair, scores.T @ scores / len(scores), 0.0)
    strength = np.sqrt(np.abs(correlations).mean(axis=1))
    for _ in range(_ROUNDS):
        fitted = correlations @ strength / np.maximum(is_pair @ strength**2, 1e-12)
        strength = 0.5 * (strength + np.clip(fitted, -1.0, 1.0))
    missed = np.where(is_pair, correlations - np.outer(strength, strength), 0.0)
    return float(np.sqrt((missed**2).sum() / 2 / freedom))
