"""From a column of images to the numbers that a model takes; the part of a transform that images have."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlcluster.data.images.decode import decode_column
from mlcluster.data.schema import ImageShape


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePixels:
    """(value / 255 - center) / scale of each pixel and channel, row by row; zeros for a missing image.

    `center` and `scale` are of the channels; where `scale` is 0, so are the pixels.
    """

    name: str
    height: int
    width: int
    channels: int
    max_pixels: int
    center: tuple[float, ...]
    scale: tuple[float, ...]
    kind: Literal["image"] = "image"

    @property
    def shape(self) -> ImageShape:
        return ImageShape(height=self.height, width=self.width, channels=self.channels, max_pixels=self.max_pixels)

    @property
    def outputs(self) -> tuple[str, ...]:
        places = product(range(self.height), range(self.width), range(self.channels))
        return tuple(f"{self.name}[{row},{column},{channel}]" for row, column, channel in places)

    def values(self, column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
        """The pixels of n images, (n, height * width * channels); one that cannot be read counts as missing."""
        decoded = decode_column(column, self.shape)
        levels = np.arange(256)[np.newaxis] / 255
        center, scale = (np.array(part)[:, np.newaxis] for part in (self.center, self.scale))
        # What each of the 256 values becomes is worked out once: the same bits for a row alone and in a batch.
        table = np.divide(levels - center, scale, out=np.zeros((self.channels, 256)), where=scale > 0)
        pixels = decoded.pixels.reshape(-1, self.channels)
        found: npt.NDArray[np.float32] = table.astype(np.float32)[np.arange(self.channels), pixels]
        found = found.reshape(decoded.pixels.shape)
        found[decoded.is_missing] = 0.0
        return found
