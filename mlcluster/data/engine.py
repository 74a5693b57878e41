"""Where per-block work runs. An engine decides where and when, never what: every engine gives the same snapshot."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


SMALL_ROWS = 200_000
"""Below this, sending the work away costs more than the work."""


class Engine(Protocol):
    """Runs one function over many tasks."""

    rows_per_task: int
    """How many rows a task should read at most, if it can choose; no result hangs on it."""

    def for_rows(self, num_rows: int) -> Engine:
        """The engine for a source of so many rows."""

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
        """The results in the order of the tasks; the first error in that order is raised.

        `function` is importable by name, and tasks and results can be pickled: an engine may use other machines.
        """


def stream(engine: Engine, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
    """The results in the order of the tasks, each as soon as it and those before are there, if the engine can."""
    if isinstance(engine, LocalEngine):
        yield from engine.stream(function, tasks)
    else:
        yield from engine.run(function, tasks)


class LocalEngine:
    """In this process, on threads: Arrow and numpy leave the interpreter free for most of the work."""

    rows_per_task = 1 << 17
    """Few, since memory is what threads share."""

    def __init__(self, num_threads: int | None = None) -> None:
        self._num_threads = num_threads or min(8, os.cpu_count() or 1)

    def for_rows(self, num_rows: int) -> Engine:  # noqa: ARG002
        """This one, for any number."""
        return self

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
        """See `Engine.run`."""
        return list(self.stream(function, tasks))

    def stream(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        """See `stream`. Not far more tasks are begun than threads work on: results do not pile up."""
        if len(tasks) <= 1 or self._num_threads == 1:
            yield from map(function, tasks)
            return
        waiting = iter(tasks)
        begun: deque[Future[Result]] = deque()
        with ThreadPoolExecutor(self._num_threads) as pool:
            try:
                for task in waiting:
                    begun.append(pool.submit(function, task))
                    if len(begun) > self._num_threads:
                        yield begun.popleft().result()
                while begun:
                    yield begun.popleft().result()
            finally:
                for future in begun:
                    future.cancel()


class EngineBySize:
    """Threads of this process up to 200,000 rows; beyond, the engine that `large` gives, which may start something."""

    rows_per_task = LocalEngine.rows_per_task

    def __init__(self, large: Callable[[], Engine], small: Engine | None = None) -> None:
        self._large, self._small = large, small or LocalEngine()

    def for_rows(self, num_rows: int) -> Engine:
        """See `Engine.for_rows`."""
        return self._small if num_rows < SMALL_ROWS else self._large()

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
        """See `Engine.run`; what asks for no size is small."""
        return self._small.run(function, tasks)
