"""Seeds of runs: the same for all policies of a task, different between tasks."""

from __future__ import annotations

import zlib

import numpy as np


def run_seed(seed: int, task: str) -> int:
    """A seed of 32 bits for run number `seed` on a task.

    Tasks share their spaces: with the bare number, one lucky draw would be lucky on all of them.
    """
    return int(np.random.SeedSequence([seed, zlib.crc32(task.encode())]).generate_state(1)[0])
