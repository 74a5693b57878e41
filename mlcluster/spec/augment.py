"""`data.augment:`: train rows that are made of train rows, and which cells of the data are looked at for being thin."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from mlcluster.spec.base import Section


def _keys_as_text(value: Any) -> Any:
    return {str(key): share for key, share in value.items()} if isinstance(value, dict) else value


class CoverageSpec(Section):
    """Which pairs of columns must be covered, and by how many train rows a cell."""

    columns: tuple[str, ...] = ()
    """Features; by default the sensitive ones, or else the first eight."""
    min_rows: Annotated[int, Field(ge=1)] = 30
    bins: Annotated[int, Field(ge=2, le=20)] = 4
    """Of a number, between its quantiles."""


class ImageAugmentSpec(Section):
    """What is done to each image of the train split, anew in each epoch; what is left out is not done.

    Sizes are shares of a side, angles degrees; each is drawn evenly from minus to plus what is given. What comes in at
    an edge is that edge's own colour.
    """

    crop: Annotated[int, Field(ge=0, le=64)] = 0
    """Pixels that are added on all sides before a random part of the old size is cut out."""
    flip: bool = False
    """Left and right change places in half of the images: for what means the same in a mirror, which digits do not."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    translate: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    scale: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """0.1 is from 0.9 to 1.1 times the size."""
    shear: Annotated[float, Field(ge=0, le=45)] = 0.0
    cutout: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    """Side of the square that is covered by the mean colour (DeVries and Taylor 2017)."""

    @property
    def is_on(self) -> bool:
        """Whether anything is done."""
        return self != ImageAugmentSpec()


class AugmentSpec(Section):
    """What is done to the train split, and to no other."""

    noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Deviation of the Gaussian noise on numbers, as a share of each column's own; each epoch draws anew. Nets only."""
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Alpha of the Beta distribution by which two rows are mixed (Zhang et al. 2018); 0 is off. Nets only."""
    images: ImageAugmentSpec = ImageAugmentSpec()
    """Nets only."""
    oversample: Annotated[dict[str, Annotated[float, Field(gt=0, lt=1)]], BeforeValidator(_keys_as_text)] = Field(
        default_factory=dict
    )
    """Share of the train rows that a group gets at least: a class, or `column=level`. All families."""
    interpolate: bool = False
    """Whether oversampled rows lie between a row and a near one of its group and class, rather than being copies."""
    coverage: CoverageSpec = CoverageSpec()

    @field_validator("oversample")
    @classmethod
    def _leaves_room(cls, shares: dict[str, float]) -> dict[str, float]:
        if sum(shares.values()) >= 0.99:
            raise ValueError(f"adds up to {sum(shares.values()):g}, which leaves no row to others; lower one of them")
        return shares

    @property
    def is_per_epoch(self) -> bool:
        """Whether nets see other rows in each epoch."""
        return self.noise > 0 or self.mixup > 0 or self.images.is_on

    @property
    def is_on(self) -> bool:
        """Whether anything is done to the train split."""
        return self.is_per_epoch or bool(self.oversample)
