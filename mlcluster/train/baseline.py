"""The constant model: class shares, or the mean. Whatever does not beat it has learnt nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlcluster.train.learner import Matrices


def constant_scores(train: Matrices, *, num_classes: int, num_rows: int) -> npt.NDArray[np.float64]:
    """The same answer for each row: (num_rows, num_classes) class shares of `train`, or (num_rows,) its mean."""
    if num_classes == 0:
        return np.full(num_rows, float(np.mean(train.targets)))
    shares = np.bincount(train.targets.astype(np.int64), minlength=num_classes) / len(train)
    return np.tile(shares, (num_rows, 1))
