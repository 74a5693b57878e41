"""CPU-seconds, wall and peak memory of a piece of work, over the whole tree of processes below this one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a piece of work took."""

    cpu_seconds: float
    wall_seconds: float
    peak_mib: float
    """Largest sum of what each process holds for itself, and of what they share, counted once."""


def measure(work: Callable[[], Any], every_seconds: float = 0.05) -> Cost:
    """Runs `work` while a thread looks at all processes below this one. What a process burns after the last look
    before its end is lost: at most `every_seconds`."""
    watch = _Watch()
    watch.look()
    watch.first = dict(watch.cpu)
    done = threading.Event()

    def look_on() -> None:
        while not done.wait(every_seconds):
            watch.look()

    thread = threading.Thread(target=look_on, daemon=True)
    thread.start()
    started = time.perf_counter()
    work()
    wall = time.perf_counter() - started
    done.set()
    thread.join()
    watch.look()
    cpu = sum(seconds - watch.first.get(process, 0.0) for process, seconds in watch.cpu.items())
    return Cost(cpu_seconds=cpu - watch.own_seconds, wall_seconds=wall, peak_mib=watch.peak / _MIB)


class _Watch:
    def __init__(self) -> None:
        self.cpu: dict[tuple[int, float], float] = {}
        self.first: dict[tuple[int, float], float] = {}
        self.peak = 0.0
        self.own_seconds = 0.0
        self._self = psutil.Process()

    def look(self) -> None:
        began = time.thread_time()
        held, shared = 0, 0
        for process in [self._self, *self._self.children(recursive=True)]:
            try:
                with process.oneshot():
                    times, memory = process.cpu_times(), process.memory_info()
                    self.cpu[process.pid, process.create_time()] = times.user + times.system
            except psutil.Error:
                continue
            held += memory.rss - memory.shared
            shared = max(shared, memory.shared)
        self.peak = max(self.peak, held + shared)
        self.own_seconds += time.thread_time() - began
