"""Giving back what a task no longer needs: allocators keep it for the next one, and a long job's peak is theirs."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

import pyarrow as pa


def release() -> None:
    """Hand freed memory back to the system. A few milliseconds; once a task, not once a column."""
    pa.default_memory_pool().release_unused()
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _libc() -> Any:
    """The C library where it has `malloc_trim`: glibc."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") else None
