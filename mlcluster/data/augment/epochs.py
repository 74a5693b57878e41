"""What a net sees of the train rows in one epoch: noisy, mixed, or both; in the next epoch something else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlcluster.data.augment.mixup import Mixture, draw_mixture
from mlcluster.data.augment.noise import with_noise
from mlcluster.spec import AugmentSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochAugmentation:
    """Noise of `deviations` (k,) on the number columns (k,) of the dense matrix, and mixup of `alpha` (0: off)."""

    columns: npt.NDArray[np.intp]
    deviations: npt.NDArray[np.float64]
    alpha: float

    @classmethod
    def of(
        cls, spec: AugmentSpec, features: npt.NDArray[np.float32], number_columns: npt.NDArray[np.intp]
    ) -> EpochAugmentation | None:
        """What `spec` asks for, scaled to the dense train matrix (n, d); None where that is nothing."""
        if not spec.is_per_epoch:
            return None
        columns = number_columns if spec.noise else number_columns[:0]
        spread = features[:, columns].astype(np.float64).std(axis=0)
        return cls(columns=columns, deviations=spec.noise * spread, alpha=spec.mixup)

    @property
    def draws_per_row(self) -> int:
        """Random numbers that a row takes in each epoch."""
        return (len(self.columns) + 2) * 2 if self.alpha else len(self.columns)

    def made(
        self, features: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], *, seed: int, epoch: int
    ) -> tuple[npt.NDArray[np.float32], Mixture | None]:
        """The `rows` (b,) of the train matrix `features` (n, d) as they are in that epoch, and how they were mixed.

        A row comes out the same whichever rows are asked for with it, in whatever order.
        """
        own = self._noisy(features, rows, seed=seed, epoch=epoch)
        if not self.alpha:
            return own, None
        mixture = draw_mixture(rows, alpha=self.alpha, num_rows=len(features), seed=seed, epoch=epoch)
        theirs = self._noisy(features, mixture.partners, seed=seed, epoch=epoch)
        return mixture.mixed(own, theirs), mixture

    def _noisy(
        self, features: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], *, seed: int, epoch: int
    ) -> npt.NDArray[np.float32]:
        return with_noise(features[rows], self.columns, deviations=self.deviations, rows=rows, seed=seed, epoch=epoch)
