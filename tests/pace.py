"""How fast this machine runs Python: what a test holds a time against, so that a slow machine fails no test."""

from __future__ import annotations

import time

_ROUNDS = 50


def seconds_of_sum() -> float:
    """Of the squares of 5,000 numbers, added up: the least of many, since another process may hold one up."""
    seconds = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        sum(number * number for number in range(5_000))
        seconds.append(time.perf_counter() - started)
    return min(seconds)
