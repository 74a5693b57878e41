"""Random numbers by their place: what a row draws depends on the seed, the epoch and its number, and on nothing else.

A stream would tie a row to those before it, and so to batches, order and workers. A counter-based generator has no
state: draw b of row r in epoch e is a function of (seed, purpose, e, r, b). It is written with operators that int64
arrays of numpy and tensors of torch share, and gives the same bits in both, on a CPU or a GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF
_WORDS = 4

Counter = tuple[Any, Any, Any, Any]


def philox_4x32(counter: Counter, key: tuple[int, int]) -> Counter:
    """Four 32-bit words for each counter: Philox4x32-10 of Salmon et al. 2011 ("Parallel random numbers", SC11).

    The words of the counter are int64 arrays or tensors of one shape (or broadcastable), each in 0 to 2^32 - 1.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # The product of two 32-bit words has 64 bits: int64 wraps, and the mask takes off the sign that was shifted in.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = ((p1 >> 32) & _LOW) ^ c1 ^ k0, p1 & _LOW, ((p0 >> 32) & _LOW) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return c0, c1, c2, c3


def key_of(seed: int) -> tuple[int, int]:
    """A seed of up to 64 bits as the two words of a key."""
    return seed & _LOW, (seed >> 32) & _LOW


def uniforms(
    rows: npt.NDArray[np.int64], *, width: int, seed: int, epoch: int, purpose: int
) -> npt.NDArray[np.float64]:
    """(n, width) numbers in (0, 1), never 0 or 1: those of each of the n row numbers, in each epoch others.

    `purpose` (below 2^16) keeps apart what is drawn for one row for different ends.
    """
    num_blocks = -(-width // _WORDS)
    row = rows.astype(np.int64)[:, np.newaxis]
    block = np.arange(num_blocks, dtype=np.int64)[np.newaxis, :] + (purpose << 16)
    counter = (row & _LOW, row >> 32, np.int64(epoch), block)
    words = np.stack(np.broadcast_arrays(*philox_4x32(counter, key_of(seed))), axis=-1)
    drawn: npt.NDArray[np.float64] = (words.reshape(len(rows), -1)[:, :width] + 0.5) / 2.0**32
    return drawn


def normals(rows: npt.NDArray[np.int64], *, width: int, seed: int, epoch: int, purpose: int) -> npt.NDArray[np.float64]:
    """(n, width) standard normal numbers, by the inverse of their distribution: one uniform each."""
    drawn: npt.NDArray[np.float64] = ndtri(uniforms(rows, width=width, seed=seed, epoch=epoch, purpose=purpose))
    return drawn
