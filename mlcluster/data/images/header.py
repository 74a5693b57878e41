"""What the first bytes of an image say, before anything of it is decoded.

A few kilobytes can claim to be gigabytes of pixels (a decompression bomb), so that the size is read here and held
against a limit first. PNG: ISO/IEC 15948, 11.2.2; JPEG: ITU-T T.81, B.2.2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

PNG = b"\x89PNG\r\n\x1a\n"
"""How a PNG begins."""
_JPEG = b"\xff\xd8\xff"
_PNG_GREY = (0, 4)
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Starts of frames; the three left out are tables that share their numbers."""
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers without a length behind them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageHeader:
    """The size of an encoded image, and its channels: 1 for grey, else 3; transparency does not count."""

    height: int
    width: int
    channels: int


def read_header(data: bytes) -> ImageHeader | None:
    """The header of a PNG or a JPEG; None for anything else, and for one that is cut off or has no pixels."""
    try:
        found = _png(data) if data.startswith(PNG) else _jpeg(data) if data.startswith(_JPEG) else None
    except (struct.error, IndexError):
        return None
    return found if found is not None and found.height and found.width else None


def _png(data: bytes) -> ImageHeader | None:
    if data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return ImageHeader(height=height, width=width, channels=1 if data[25] in _PNG_GREY else 3)


def _jpeg(data: bytes) -> ImageHeader | None:
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in _BARE_MARKERS:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAME_MARKERS:
            height, width, channels = struct.unpack_from(">HHB", data, at + 5)
            return ImageHeader(height=height, width=width, channels=1 if channels == 1 else 3)
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None
