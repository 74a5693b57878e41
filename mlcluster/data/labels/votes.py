"""Who gave which label to which row, in the form that every way of aggregating takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

ABSTAINED = -1
"""The code of "no label"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Votes:
    """One entry a vote: `voters[i]` gave class `labels[i]` to row `items[i]`. All three are (v,) and count from 0."""

    items: Codes
    voters: Codes
    labels: Codes
    num_items: int
    num_voters: int
    num_classes: int

    @classmethod
    def of_matrix(cls, codes: Codes, *, num_classes: int) -> Votes:
        """From a code a row and voter, (n, m), `ABSTAINED` where there is none."""
        items, voters = np.nonzero(codes != ABSTAINED)
        return cls(
            items=items.astype(np.int64),
            voters=voters.astype(np.int64),
            labels=codes[items, voters],
            num_items=codes.shape[0],
            num_voters=codes.shape[1],
            num_classes=num_classes,
        )

    def matrix(self) -> Codes:
        """A code a row and voter, (n, m); of two votes of one voter for one row, the later."""
        codes = np.full((self.num_items, self.num_voters), ABSTAINED, dtype=np.int64)
        codes[self.items, self.voters] = self.labels
        return codes

    def counts(self, weights: FloatArray | None = None) -> FloatArray:
        """How many voters gave each class to each row, (n, k); a voter's votes count `weights` (m,), by default 1."""
        places = self.items * self.num_classes + self.labels
        worth = None if weights is None else weights[self.voters]
        flat = np.bincount(places, weights=worth, minlength=self.num_items * self.num_classes)
        return flat.reshape(self.num_items, self.num_classes).astype(np.float64)


def majority(votes: Votes, weights: FloatArray | None = None) -> FloatArray:
    """The share of each class among a row's votes, (n, k); a row without votes has the shares of all votes."""
    counts = votes.counts(weights)
    totals = counts.sum(axis=1, keepdims=True)
    overall = (counts.sum(axis=0) + 1) / (counts.sum() + votes.num_classes)
    return np.where(totals > 0, counts / np.where(totals > 0, totals, 1.0), overall)
