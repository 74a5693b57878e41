"""What a loaded model takes, and giving it back."""

from __future__ import annotations

import ctypes
import gc
import sys

_BYTES_A_BYTE = 5
"""Resident bytes for each of a bundle's: 2.2 were measured for nets of 4 MB, 4.2 and 4.4 for trees of 1 and 24 MB. ONNX
Runtime lays them out anew beside the bytes of the file."""
_LEAST_BYTES = 2**19
"""An application of its own: 0.25 MB was measured for a model of 2 KB."""


def loaded_bytes(num_bundle_bytes: int) -> int:
    """What a bundle of so many bytes takes in memory once it answers, at most."""
    return _LEAST_BYTES + _BYTES_A_BYTE * num_bundle_bytes


def settle_memory() -> None:
    """What is loaded now stays: collections of garbage, of which putting a model away is one, need not look at it."""
    gc.collect()
    gc.freeze()


def give_back_memory() -> None:
    """Frees what nothing refers to, and hands what the C library keeps of it back to the machine."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone
        if trim is not None:
            trim(0)
