"""Gaussian noise on number columns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlcluster.data.augment.philox import normals

_PURPOSE = 1


def with_noise(
    features: npt.NDArray[np.float32],
    columns: npt.NDArray[np.intp],
    *,
    deviations: npt.NDArray[np.float64],
    rows: npt.NDArray[np.int64],
    seed: int,
    epoch: int,
) -> npt.NDArray[np.float32]:
    """A copy of `features` (n, d) with noise of `deviations` (k,) on `columns` (k,); `rows` (n,) are their numbers.

    Bishop 1995 ("Training with noise is equivalent to Tikhonov regularization").
    """
    noisy = features.copy()
    if len(columns):
        drawn = normals(rows, width=len(columns), seed=seed, epoch=epoch, purpose=_PURPOSE)
        noisy[:, columns] += (drawn * deviations).astype(np.float32)
    return noisy
