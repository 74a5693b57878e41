"""Small tables of images that are drawn here: a bright bar, lying or standing, somewhere on dark noise."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

SIDE = 12


def encoded(image: npt.NDArray[Any], suffix: str = ".png") -> bytes:
    """A PNG or a JPEG of an image (height, width) or (height, width, 3), RGB."""
    ordered = image[..., ::-1] if image.ndim == 3 and image.shape[2] == 3 else image
    done, data = cv2.imencode(suffix, np.ascontiguousarray(ordered))
    assert done
    return bytes(data.tobytes())


def bar(rng: np.random.Generator, *, is_lying: bool, side: int = SIDE) -> npt.NDArray[np.uint8]:
    """A grey image (side, side)."""
    image = rng.integers(0, 90, (side, side))
    at, start = rng.integers(1, side - 1), rng.integers(0, side // 3 + 1)
    rows, columns = (slice(at, at + 1), slice(start, start + side // 2))[:: 1 if is_lying else -1]
    image[rows, columns] += 150
    return image.astype(np.uint8)


def bar_table(num_rows: int, seed: int = 0, *, side: int = SIDE) -> pa.Table:
    """`picture`, `shape` (lying or standing) and a row number that may be excluded."""
    rng = np.random.default_rng(seed)
    is_lying = rng.random(num_rows) < 0.5
    pictures = [encoded(bar(rng, is_lying=bool(each), side=side)) for each in is_lying]
    return image_table(pictures, np.where(is_lying, "lying", "standing").tolist())


def image_table(pictures: Sequence[bytes | None], shapes: Sequence[str]) -> pa.Table:
    return pa.table({"picture": pa.array(pictures, pa.binary()), "shape": list(shapes)})


def write_bars(folder: Path, table: pa.Table, *, row_group_size: int | None = None) -> Path:
    """The table as `bars.parquet` in `folder`."""
    path = folder / "bars.parquet"
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def png_that_claims(height: int, width: int) -> bytes:
    """A few bytes that a decoder would make height x width pixels of."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


def spoilt_table() -> pa.Table:
    """80 rows, of which three cannot be read and one has no image."""
    table = bar_table(80)
    pictures = table.column("picture").to_pylist()
    pictures[3], pictures[10] = pictures[3][:60], b"GIF89a"
    pictures[20], pictures[30] = png_that_claims(9_000, 9_000), None
    return image_table(pictures, table.column("shape").to_pylist())
