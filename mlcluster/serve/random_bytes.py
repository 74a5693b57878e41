"""Random bytes of the operating system, fetched many at a time: a call a request costs as much as reading its JSON."""

from __future__ import annotations

import os

_NUM_BYTES = 4096


class RandomBytes:
    """As unguessable as `os.urandom`, and never given twice, in a process that was forked off either."""

    def __init__(self) -> None:
        self._pool = b""
        self._at = 0
        os.register_at_fork(after_in_child=self._forget)

    def take(self, count: int) -> bytes:
        """Fresh bytes; of at most 4,096."""
        at = self._at
        if at + count > len(self._pool):
            self._pool, at = os.urandom(_NUM_BYTES), 0
        self._at = at + count
        return self._pool[at : at + count]

    def _forget(self) -> None:
        self._pool = b""
        self._at = 0
