"""The truth behind votes of unequal worth: each voter has a confusion matrix, and both are estimated together.

A. P. Dawid and A. M. Skene, "Maximum likelihood estimation of observer error-rates using the EM algorithm", Applied
Statistics 28(1), 1979. Two changes: a voter's matrix is drawn towards the one that all voters share, with the weight
of a few votes, since a crowd has many voters of few votes; and a vote may count for less than one, for voters that
copy each other.

Label functions abstain, and often more in one class than in another: one that says "spam" or nothing tells by its
silence too. For them, silence is one more thing to say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mlcluster.data.labels.votes import ABSTAINED, Codes, FloatArray, Votes, majority

_MAX_ROUNDS = 200
_TOLERANCE = 1e-5
# A voter's confusion matrix counts as if this many more votes in each class had been spread as all voters' are.
_SHARED_VOTES = 4.0
_MOST_WORTH = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Consensus:
    """What the votes say together."""

    posterior: FloatArray
    """(n, k): the probability of each class, row by row."""
    confusions: FloatArray
    """(m, k, s): of a voter, true class by what was said, silence last where it counts; rows sum to 1."""
    priors: FloatArray
    """(k,): how frequent each class is."""
    accuracies: FloatArray
    """(m,): the share of a voter's votes that are right, by the posterior; NaN without votes."""


def dawid_skene(
    votes: Votes,
    *,
    weights: FloatArray | None = None,
    silence_tells: bool = False,
    known: Codes | None = None,
    priors: FloatArray | None = None,
) -> Consensus:
    """The posterior of each row's class, and each voter's confusion matrix, by expectation and maximisation.

    `weights` (m,) in (0, 1] is what one vote of each voter counts; 1 by default. `known` (n,) holds classes that are
    certain, else `ABSTAINED`; `priors` (k,) how frequent the classes are, where that is known.
    Starts at the majority, and ends when no probability moves by more than 1e-5, or after 200 rounds.
    """
    weights = np.ones(votes.num_voters) if weights is None else weights
    said = _with_silence(votes) if silence_tells else votes
    certain = _certain(known, votes)
    posterior = certain(majority(votes, weights))
    worth = _worth(known, votes.num_items)
    for _ in range(_MAX_ROUNDS):
        shares = (posterior.sum(axis=0) + 1) / (votes.num_items + votes.num_classes) if priors is None else priors
        confusions = _confusions(said, posterior * worth[:, None])
        new = certain(_posterior(said, confusions, shares, weights))
        moved = float(np.abs(new - posterior).max(initial=0.0))
        posterior = new
        if moved < _TOLERANCE:
            break
    return Consensus(
        posterior=posterior,
        confusions=confusions,
        priors=shares,
        accuracies=accuracies(votes, posterior),
    )


def accuracies(votes: Votes, posterior: FloatArray) -> FloatArray:
    """The mean probability that a voter's votes are right, (m,); NaN without votes."""
    right = np.bincount(votes.voters, weights=posterior[votes.items, votes.labels], minlength=votes.num_voters)
    cast = np.bincount(votes.voters, minlength=votes.num_voters)
    return np.where(cast > 0, right / np.maximum(cast, 1), np.nan)


def _certain(known: Codes | None, votes: Votes) -> Callable[[FloatArray], FloatArray]:
    """Puts what is known into a posterior, in place."""
    rows = np.flatnonzero(known != ABSTAINED) if known is not None else np.zeros(0, dtype=np.intp)
    truth = np.eye(votes.num_classes)[known[rows]] if known is not None else np.zeros((0, votes.num_classes))

    def put(posterior: FloatArray) -> FloatArray:
        posterior[rows] = truth
        return posterior

    return put


def _worth(known: Codes | None, num_items: int) -> FloatArray:
    """What each row counts where voters are judged, (n,): known ones as much as all others together, up to a limit."""
    worth = np.ones(num_items)
    if known is not None and (known != ABSTAINED).any():
        num_known = int((known != ABSTAINED).sum())
        worth[known != ABSTAINED] = min(_MOST_WORTH, max(1.0, (num_items - num_known) / num_known))
    return worth


def _with_silence(votes: Votes) -> Votes:
    """A vote of every voter for every row, silence as the class after the last."""
    codes = votes.matrix()
    codes[codes == ABSTAINED] = votes.num_classes
    return Votes.of_matrix(codes, num_classes=votes.num_classes + 1)


def _confusions(said: Votes, posterior: FloatArray) -> FloatArray:
    num_true, num_said = posterior.shape[1], said.num_classes
    places = said.voters * num_said + said.labels
    counts = np.empty((said.num_voters, num_true, num_said))
    for true in range(num_true):
        sums = np.bincount(places, weights=posterior[said.items, true], minlength=said.num_voters * num_said)
        counts[:, true] = sums.reshape(said.num_voters, num_said)
    shared = counts.sum(axis=0) + np.eye(num_true, num_said) + 1 / num_said  # never 0: a logarithm is taken
    shared /= shared.sum(axis=1, keepdims=True)
    counts += _SHARED_VOTES * shared
    return np.asarray(counts / counts.sum(axis=2, keepdims=True))


def _posterior(said: Votes, confusions: FloatArray, priors: FloatArray, weights: FloatArray) -> FloatArray:
    logs = np.log(confusions) * weights[:, None, None]
    scores = np.tile(np.log(priors), (said.num_items, 1))
    for true in range(len(priors)):
        terms = logs[said.voters, true, said.labels]
        scores[:, true] += np.bincount(said.items, weights=terms, minlength=said.num_items)
    scores -= scores.max(axis=1, keepdims=True)
    likelihood = np.exp(scores)
    return np.asarray(likelihood / likelihood.sum(axis=1, keepdims=True))
