"""Labels that are probably wrong, from probabilities that a model gave to rows it had not seen.

Confident learning: C. Northcutt, L. Jiang and I. Chuang, JAIR 70, 2021. A row counts for a class where its probability
reaches the mean probability that the rows bearing that label have of it; counted by label and class, that is the joint
distribution of given and true labels, which says how many labels are wrong; the rows with the least margin are they.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcluster.data.labels.votes import Codes, FloatArray


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelAudit:
    """What is thought of n labels."""

    margins: FloatArray
    """(n,): probability of the given class less that of the best other one; the lowest are the most doubtful."""
    suggested: Codes
    """(n,): the class that a confident row counts for, else the most probable one."""
    is_suspect: npt.NDArray[np.bool_]
    joint: FloatArray
    """(k, k): estimated share of rows by given and true class; sums to 1."""

    @property
    def num_suspects(self) -> int:
        return int(self.is_suspect.sum())

    @property
    def wrong_share(self) -> float:
        """Estimated share of labels that are wrong."""
        return float(1 - np.trace(self.joint))

    def suspects(self) -> npt.NDArray[np.intp]:
        """The rows of suspect labels, the most doubtful first."""
        rows = np.flatnonzero(self.is_suspect)
        return np.asarray(rows[np.argsort(self.margins[rows], kind="stable")])


def audit_labels(given: Codes, probabilities: FloatArray) -> LabelAudit:
    """Which of the labels `given` (n,) are probably wrong; `probabilities` (n, k) are out of fold.

    A label is suspect where the row is confidently of another class; no more labels of a class are than the joint
    distribution has room for.
    """
    num_rows, num_classes = probabilities.shape
    rows = np.arange(num_rows)
    own = probabilities[rows, given]
    others = probabilities.copy()
    others[rows, given] = -1.0
    margins = own - others.max(axis=1)
    thresholds = _thresholds(given, own, num_classes)
    is_confident = probabilities >= thresholds
    is_counted = np.asarray(is_confident.any(axis=1))
    # Of several classes that a row is confident of, the most probable one counts.
    confident = np.where(is_confident, probabilities, -1.0).argmax(axis=1)
    suggested = np.where(is_counted, confident, probabilities.argmax(axis=1))
    joint = _joint(given, suggested, is_counted, num_classes)
    is_suspect = is_counted & (suggested != given) & (margins < 0)
    for label in range(num_classes):
        here = np.flatnonzero(is_suspect & (given == label))
        room = round(num_rows * float(joint[label].sum() - joint[label, label]))
        is_suspect[here[np.argsort(margins[here], kind="stable")[room:]]] = False
    return LabelAudit(margins=margins, suggested=suggested, is_suspect=is_suspect, joint=joint)


def describe_suspects(
    audit: LabelAudit, given: Codes, classes: Sequence[object], *, rows: npt.NDArray[np.int64], limit: int
) -> list[dict[str, Any]]:
    """The first `limit` suspects as plain records; `rows` (n,) is what a person calls each row by."""
    return [
        {
            "row": int(rows[place]),
            "given": classes[given[place]],
            "suggested": classes[audit.suggested[place]],
            "margin": round(float(audit.margins[place]), 4),
        }
        for place in audit.suspects()[:limit].tolist()
    ]


def _thresholds(given: Codes, own: FloatArray, num_classes: int) -> FloatArray:
    """The mean probability of each class among the rows that bear it, (k,); out of reach for a class without rows."""
    counts = np.bincount(given, minlength=num_classes)
    sums = np.bincount(given, weights=own, minlength=num_classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def _joint(given: Codes, counted: Codes, is_counted: npt.NDArray[np.bool_], num_classes: int) -> FloatArray:
    """The confident counts, each row of the table scaled to how often its label was given (equation 3)."""
    places = (given * num_classes + counted)[is_counted]
    counts = np.bincount(places, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.float64)
    of_label = np.bincount(given, minlength=num_classes) / len(given)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, counts / np.maximum(totals, 1), np.eye(num_classes))
    return np.asarray(shares * of_label[:, None])
