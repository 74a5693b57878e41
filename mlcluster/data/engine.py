"""Where per-block work runs. An engine decides where and when, never what: every engine gives the same snapshot."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class Engine(Protocol):
    """Runs one function over many tasks."""

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
        """The results in the order of the tasks; the first error in that order is raised.

        `function` is importable by name, and tasks and results can be pickled: an engine may use other machines.
        """


class LocalEngine:
    """In this process, on threads: Arrow and numpy leave the interpreter free for most of the work."""

    def __init__(self, num_threads: int | None = None) -> None:
        self._num_threads = num_threads or min(8, os.cpu_count() or 1)

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
        """See `Engine.run`."""
        if len(tasks) <= 1 or self._num_threads == 1:
            return [function(task) for task in tasks]
        with ThreadPoolExecutor(self._num_threads) as pool:
            return list(pool.map(function, tasks))
