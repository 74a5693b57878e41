"""Rows between two rows, with targets between their targets (Zhang et al. 2018, "mixup", eq. 1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from mlcluster.data.augment.philox import uniforms

_PURPOSE = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """Row i is `own_share[i]` of itself and the rest of row `partners[i]`; both (n,)."""

    partners: npt.NDArray[np.int64]
    own_share: npt.NDArray[np.float64]

    def mixed(self, own: npt.NDArray[np.floating], theirs: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """`own` (n, d) of the rows themselves, mixed with `theirs` (n, d), which are of the partners."""
        share = self.own_share[:, np.newaxis].astype(np.float32)
        return np.asarray(share * own + (1 - share) * theirs, dtype=np.float32)


def draw_mixture(rows: npt.NDArray[np.int64], *, alpha: float, num_rows: int, seed: int, epoch: int) -> Mixture:
    """Who each of the `rows` (n,) is mixed with out of `num_rows`, and its share, which is of Beta(alpha, alpha).

    Each row draws its own share, where the paper's code draws one a batch: a batch would tie rows to each other.
    """
    drawn = uniforms(rows, width=2, seed=seed, epoch=epoch, purpose=_PURPOSE)
    return Mixture(partners=(drawn[:, 0] * num_rows).astype(np.int64), own_share=betaincinv(alpha, alpha, drawn[:, 1]))
