"""What a net sees of the train rows in one epoch: noisy, mixed, images moved; in the next epoch something else."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mlcluster.data.augment.mixup import Mixture, draw_mixture
from mlcluster.data.augment.noise import with_noise
from mlcluster.data.schema import ImageShape
from mlcluster.spec import AugmentSpec, ImageAugmentSpec

VALUES_A_DRAW = 6
"""Values of an image that are resampled in the time of one draw: 10 ns each, on one core."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePlace:
    """Which columns of the dense matrix an image fills, from `start` on."""

    start: int
    shape: ImageShape

    @property
    def columns(self) -> slice:
        return slice(self.start, self.start + self.shape.num_values)


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochAugmentation:
    """Noise of `deviations` (k,) on the number columns (k,) of the dense matrix, and mixup of `alpha` (0: off)."""

    columns: npt.NDArray[np.intp]
    deviations: npt.NDArray[np.float64]
    alpha: float
    images: ImageAugmentSpec = field(default_factory=ImageAugmentSpec)
    image_places: tuple[ImagePlace, ...] = ()
    """The images that are moved; empty where `images` asks for nothing."""

    @classmethod
    def of(
        cls,
        spec: AugmentSpec,
        features: npt.NDArray[np.float32],
        number_columns: npt.NDArray[np.intp],
        image_places: tuple[ImagePlace, ...] = (),
    ) -> EpochAugmentation | None:
        """What `spec` asks for, scaled to the dense train matrix (n, d); None where that is nothing."""
        if not spec.is_per_epoch:
            return None
        columns = number_columns if spec.noise else number_columns[:0]
        spread = features[:, columns].astype(np.float64).std(axis=0)
        return cls(
            columns=columns,
            deviations=spec.noise * spread,
            alpha=spec.mixup,
            images=spec.images,
            image_places=image_places if spec.images.is_on else (),
        )

    @property
    def draws_per_row(self) -> int:
        """Random numbers that a row takes in each epoch, and those that resampling its images takes as long as."""
        own = len(self.columns) + sum(place.shape.num_values for place in self.image_places) // VALUES_A_DRAW
        return (own + 2) * 2 if self.alpha else own

    def made(
        self, features: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], *, seed: int, epoch: int
    ) -> tuple[npt.NDArray[np.float32], Mixture | None]:
        """The `rows` (b,) of the train matrix `features` (n, d) as they are in that epoch, and how they were mixed.

        A row comes out the same whichever rows are asked for with it, in whatever order.
        """
        own = self._own(features, rows, seed=seed, epoch=epoch)
        if not self.alpha:
            return own, None
        mixture = draw_mixture(rows, alpha=self.alpha, num_rows=len(features), seed=seed, epoch=epoch)
        theirs = self._own(features, mixture.partners, seed=seed, epoch=epoch)
        return mixture.mixed(own, theirs), mixture

    def _own(
        self, features: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], *, seed: int, epoch: int
    ) -> npt.NDArray[np.float32]:
        """The rows (b, d) before they are mixed."""
        made = with_noise(features[rows], self.columns, deviations=self.deviations, rows=rows, seed=seed, epoch=epoch)
        for place in self.image_places:
            # Here, for it loads torch, which data work does without.
            from mlcluster.data.augment.images import augmented_rows

            own = made[:, place.columns]
            made[:, place.columns] = augmented_rows(own, place.shape, rows, self.images, seed=seed, epoch=epoch)
        return made
