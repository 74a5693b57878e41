"""What one chunk of rows says about a column of images: whole numbers, which add up to the same in any order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlcluster.data.images.decode import try_decode
from mlcluster.data.images.header import ImageHeader, read_header
from mlcluster.data.schema import ImageShape
from mlcluster.spec import ImageSpec

MAX_SIDE = 64
"""The longer side of the size that is chosen where the project file gives none."""
_CHANNELS, _VALUES = 3, 256


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePartial:
    """Images by their (height, width, channels), and how often each value stands in each channel, (3, 256).

    Values are of the images as they are encoded, each pixel counting once; a grey image counts in all three channels.
    """

    missing: int
    """Rows without an image, or with one that cannot be read."""
    sizes: Mapping[tuple[int, int, int], int]
    histogram: npt.NDArray[np.int64]

    @property
    def count(self) -> int:
        """Rows with an image."""
        return sum(self.sizes.values())

    def shape(self, spec: ImageSpec) -> ImageShape:
        """What images are brought to: what `spec` says, or the most frequent size within `MAX_SIDE`; see `ImageSpec`.

        The partial holds an image.
        """
        by_size: Counter[tuple[int, int]] = Counter()
        for (height, width, _), count in self.sizes.items():
            by_size[height, width] += count
        height, width = min(by_size, key=lambda size: (-by_size[size], size))
        shrink = min(1.0, MAX_SIDE / max(height, width))
        return ImageShape(
            height=spec.height or max(1, round(height * shrink)),
            width=spec.width or max(1, round(width * shrink)),
            channels=spec.channels or max(channels for *_, channels in self.sizes),
            max_pixels=spec.max_pixels,
        )

    def moments(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel, of values in 0 to 1; a channel of one value deviates by 0."""
        values = np.arange(_VALUES) / (_VALUES - 1)
        weights = self.histogram[:channels] / np.maximum(self.histogram[:channels].sum(axis=1, keepdims=True), 1)
        means = (weights * values).sum(axis=1)
        deviations = np.sqrt((weights * (values - means[:, np.newaxis]) ** 2).sum(axis=1))
        return tuple(means.tolist()), tuple(deviations.tolist())


def image_partial(column: pa.ChunkedArray, max_pixels: int) -> ImagePartial:
    """The partial of one chunk's column of encoded images; they are decoded."""
    sizes: Counter[tuple[int, int, int]] = Counter()
    histogram = np.zeros((_CHANNELS, _VALUES), dtype=np.int64)
    for data in column.to_pylist():
        image = None if data is None else try_decode(data, max_pixels)[1]
        if image is None:
            continue
        height, width, channels = image.shape
        sizes[height, width, channels] += 1
        for channel in range(channels):
            counts = np.bincount(image[:, :, channel].ravel(), minlength=_VALUES)
            histogram[channel if channels > 1 else slice(None)] += counts
    return ImagePartial(missing=len(column) - sizes.total(), sizes=sizes, histogram=histogram)


def header_partial(column: pa.ChunkedArray, max_pixels: int) -> ImagePartial:
    """The same by headers alone, with an empty histogram: nothing is decoded, and OpenCV is not needed."""
    headers = [read_header(data) for data in column.to_pylist() if data is not None]
    sizes = Counter(_key(one) for one in headers if one is not None and one.height * one.width <= max_pixels)
    histogram = np.zeros((_CHANNELS, _VALUES), dtype=np.int64)
    return ImagePartial(missing=len(column) - sizes.total(), sizes=sizes, histogram=histogram)


def merged_images(parts: Sequence[ImagePartial]) -> ImagePartial:
    """All partials of one column together."""
    sizes: Counter[tuple[int, int, int]] = Counter()
    for part in parts:
        sizes.update(part.sizes)
    return ImagePartial(
        missing=sum(part.missing for part in parts),
        sizes=sizes,
        histogram=np.sum([part.histogram for part in parts], axis=0),
    )


def _key(header: ImageHeader) -> tuple[int, int, int]:
    return header.height, header.width, header.channels
