"""From encoded bytes to pixels of one size, by OpenCV.

Transparency is dropped, 16-bit values lose their lower byte, and a rotation that the camera noted is not applied.
Another size is stretched to the wanted one: averaged over areas where an image shrinks, bilinear where it grows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlcluster.data.images.header import ImageHeader, read_header
from mlcluster.data.schema import ImageShape
from mlcluster.errors import DataError

Pixels = npt.NDArray[np.uint8]

NO_IMAGE = "is no PNG or JPEG"
UNDECODABLE = "cannot be decoded"


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """Pixels (n, height * width * channels), zeros where there are none: `is_missing` (n,), null or a problem."""

    pixels: Pixels
    is_missing: npt.NDArray[np.bool_]
    problems: dict[int, str]
    """By row, why an image that is there cannot be read."""


def decode_column(column: pa.ChunkedArray, shape: ImageShape) -> Decoded:
    """The images of `column` (n,), encoded, or decoded to `shape` already: fixed-size binary, as `to_arrow` gives.

    Raises:
        DataError: OpenCV is not installed.
    """
    if pa.types.is_fixed_size_binary(column.type):
        return _from_arrow(column, shape)
    pixels = np.zeros((len(column), shape.num_values), dtype=np.uint8)
    is_missing, problems = np.zeros(len(column), dtype=np.bool_), {}
    for row, data in enumerate(column.to_pylist()):
        problem = None
        if data is not None:
            problem, image = try_decode(data, shape.max_pixels)
            if image is not None:
                pixels[row] = _fitted(image, shape).ravel()
                continue
        is_missing[row] = True
        if problem is not None:
            problems[row] = problem
    return Decoded(pixels=pixels, is_missing=is_missing, problems=problems)


def to_arrow(decoded: Decoded) -> pa.Array:
    """The pixels as fixed-size binary, null where they are missing; `decode_column` takes it back."""
    rows = [None if gone else row.tobytes() for gone, row in zip(decoded.is_missing, decoded.pixels, strict=True)]
    return pa.array(rows, type=pa.binary(decoded.pixels.shape[1]))


def try_decode(data: bytes, max_pixels: int) -> tuple[str | None, Pixels | None]:
    """A problem, or the pixels (height, width, channels) in the image's own size, RGB or grey."""
    header = read_header(data)
    if header is None:
        return NO_IMAGE, None
    if header.height * header.width > max_pixels:
        return f"has more pixels than data.image.max_pixels = {max_pixels}", None
    image = _decoded(data, header)
    return (UNDECODABLE, None) if image is None else (None, image)


def image_problems(values: Iterable[bytes | None], max_pixels: int) -> dict[int, str]:
    """By row, why an image cannot be read; all are decoded, for what is cut short only shows then."""
    found = ((row, try_decode(data, max_pixels)[0]) for row, data in enumerate(values) if data is not None)
    return {row: problem for row, problem in found if problem is not None}


def _decoded(data: bytes, header: ImageHeader) -> Pixels | None:
    cv2 = opencv()
    colour = cv2.IMREAD_GRAYSCALE if header.channels == 1 else cv2.IMREAD_COLOR_RGB
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), colour | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    if image is None or image.shape[:2] != (header.height, header.width):
        return None
    return np.asarray(image, dtype=np.uint8).reshape(header.height, header.width, header.channels)


def _fitted(image: Pixels, shape: ImageShape) -> Pixels:
    """The image in the size and with the channels of `shape`, (height, width, channels)."""
    cv2 = opencv()
    height, width, channels = image.shape
    if channels == 3 and shape.channels == 1:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if (height, width) != (shape.height, shape.width):
        shrinks = shape.height * shape.width < height * width
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        image = cv2.resize(image, (shape.width, shape.height), interpolation=how)
    image = image.reshape(shape.height, shape.width, -1)
    return np.repeat(image, 3, axis=2) if image.shape[2] < shape.channels else image


def _from_arrow(column: pa.ChunkedArray, shape: ImageShape) -> Decoded:
    is_missing = np.asarray(column.is_null().to_numpy(), dtype=np.bool_)
    held = b"".join(column.fill_null(bytes(shape.num_values)).to_pylist())
    pixels = np.frombuffer(held, dtype=np.uint8).reshape(len(column), shape.num_values)
    return Decoded(pixels=pixels, is_missing=is_missing, problems={})


def opencv() -> Any:
    """The module, which is an extra.

    Raises:
        DataError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise DataError(
            "data.source = images cannot be decoded without OpenCV; install it: pip install 'mlcluster[images]'."
        ) from error
    return cv2
