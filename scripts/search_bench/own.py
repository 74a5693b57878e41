"""Our own policy, through the one door by which the benchmark knows it."""

from __future__ import annotations

from collections.abc import Sequence

from mlcluster.spec import SearchSpace
from mlcluster.tune import AskTell
from search_bench.task import PastStudy, PolicyTask


def own_policy(
    task_space: SearchSpace, max_epochs: int, seed: int, workers: int, warm_history: Sequence[PastStudy]
) -> AskTell:
    """`mlcluster.search.cost_aware` on a task; `warm_history` is empty for a cold run."""
    from mlcluster.search import cost_aware  # type: ignore[attr-defined]

    raise NotImplementedError(
        f"{cost_aware.__name__} is not joined to the benchmark yet: "
        f"{len(task_space)} axes, {max_epochs} epochs, seed {seed}, {workers} workers, {len(warm_history)} studies."
    )


def ours(task: PolicyTask) -> AskTell:
    """Cold or warm, as the run is."""
    return own_policy(task.space, task.max_epochs, task.seed, task.num_workers, task.warm_history)
