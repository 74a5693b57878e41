"""The per-block work of `data/` as a Ray Data pipeline: one row a block, read inside the task that works on it."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import ray
import ray.data
from ray import cloudpickle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mlcluster.errors import ClusterError, MlclusterError

Task = TypeVar("Task")
Result = TypeVar("Result")

_GROUPS_PER_CPU = 4
_PROBE_SECONDS = 60.0
# Of rows that one call works through at most: enough for its work to take longer than its scheduling.
_GROUP_ROWS = 1 << 20


class RayDataEngine:
    """Runs blocks on the Ray session that is already there; never starts one. See `data.engine.Engine`.

    What a task writes goes to a folder that every node must share.
    """

    rows_per_task = 1 << 19
    """Many, since what two tasks share must go through the driver."""

    def for_rows(self, num_rows: int) -> RayDataEngine:  # noqa: ARG002
        """This one, for any number."""
        return self

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
        """See `Engine.run`.

        Raises:
            ClusterError: no Ray session is there, or Ray lost the work.
        """
        if not ray.is_initialized():
            raise ClusterError("ray = no session; start one with ray.init() before the data is prepared.")
        if not tasks:
            return []
        # As bytes: Ray Data would otherwise look into the tasks and guess an Arrow type for their fields.
        groups = _grouped(tasks, _GROUPS_PER_CPU * max(1, int(ray.cluster_resources().get("CPU", 1))))
        items = [{"index": index, "tasks": cloudpickle.dumps(group)} for index, group in enumerate(groups)]
        with _quiet():
            try:
                dataset = ray.data.from_items(items, override_num_blocks=len(items))
                rows = dataset.map(_Work(function)).take_all()
            except ray.exceptions.RayError as error:
                reason = str(error).strip().split("\n")[-1][:200]
                raise ClusterError(
                    f"ray = data pipeline failed ({reason}); look into Ray's logs and run again."
                ) from error
        ordered = sorted(rows, key=lambda row: row["index"])
        results = [result for row in ordered for result in cloudpickle.loads(row["results"])]
        for result in results:
            if isinstance(result, MlclusterError):
                raise result
        return results


def is_shared(folder: Path) -> bool:
    """Whether each node of the connected cluster sees this process's `folder`: a file that is put there is looked for.

    Raises:
        ClusterError: a node cannot be asked.
    """
    others = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    others.remove(ray.get_runtime_context().get_node_id())
    if not others:
        return True
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".shared-") as probe:
        asked = [
            ray.remote(_sees)
            .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
            .remote(probe.name)
            for node in others
        ]
        try:
            return all(ray.get(asked, timeout=_PROBE_SECONDS))
        except (ray.exceptions.RayError, TimeoutError) as error:
            raise ClusterError(f"{folder.name} cannot be looked for on each node ({error}); run again.") from error


def _sees(path: str) -> bool:
    return Path(path).exists()


class _Work:
    """An error that is the user's to act on comes back as a value: Ray would wrap it, and try again."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        results = [self._result(task) for task in cloudpickle.loads(row["tasks"])]
        return {"index": row["index"], "results": cloudpickle.dumps(results)}

    def _result(self, task: Any) -> Any:
        try:
            return self._function(task)
        except MlclusterError as error:
            return error


def _grouped(tasks: Sequence[Task], num_groups: int) -> list[list[Task]]:
    """Consecutive tasks together, since Ray Data starts about ten calls a second, whatever they do.

    At most about `num_groups`, and more where a group would have more than `_GROUP_ROWS` rows.
    """
    num_rows = [int(getattr(task, "num_rows", _GROUP_ROWS)) for task in tasks]
    limit = min(_GROUP_ROWS, -(-sum(num_rows) // num_groups))
    groups: list[list[Task]] = [[]]
    held = 0
    for task, rows in zip(tasks, num_rows, strict=True):
        if groups[-1] and held + rows > limit:
            groups.append([])
            held = 0
        groups[-1].append(task)
        held += rows
    return groups


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no execution plans on the terminal, which belongs to our own progress line."""
    context = ray.data.DataContext.get_current()
    logger = logging.getLogger("ray.data")
    before = (context.enable_progress_bars, context.print_on_execution_start, logger.level)
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars, context.print_on_execution_start = before[:2]
        logger.setLevel(before[2])
