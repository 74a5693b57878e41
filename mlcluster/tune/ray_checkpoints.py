"""Checkpoints for workers on any node: files in one folder of the driver's node, where the rest of the study lies too.

A worker on that node reads and writes them as files; another one has an actor there do it, so that no storage need be
shared. A segment is reported after its checkpoint was written: a node that is lost takes no reported checkpoint along.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mlcluster.train import CheckpointFolder

_AT_ONCE = 8
"""Reads and writes; each waits for the disk."""


class _Keeper:
    """The folder, for those who cannot reach it; started again where it is lost, since all that it holds are files."""

    def __init__(self, folder: Path) -> None:
        self._folder = CheckpointFolder(folder)

    def read(self, name: str) -> bytes:
        return self._folder.read(name)

    def write(self, name: str, state: bytes) -> None:
        self._folder.write(name, state)


class NodeCheckpoints:
    """See the module. To be made by the driver, on whose node the folder is; it is sent to the workers by Ray."""

    def __init__(self, folder: Path) -> None:
        self._folder = CheckpointFolder(folder)
        self._node_id = ray.get_runtime_context().get_node_id()
        here = NodeAffinitySchedulingStrategy(self._node_id, soft=False)
        self._keeper: Any = (
            ray.remote(_Keeper)
            .options(
                num_cpus=0, max_concurrency=_AT_ONCE, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here
            )
            .remote(folder)
        )

    def read(self, name: str) -> bytes:
        """See `Checkpoints`."""
        if self._is_here():
            return self._folder.read(name)
        state: bytes = ray.get(self._keeper.read.remote(name))
        return state

    def write(self, name: str, state: bytes) -> None:
        """See `Checkpoints`."""
        if self._is_here():
            self._folder.write(name, state)
        else:
            ray.get(self._keeper.write.remote(name, state))

    def _is_here(self) -> bool:
        return bool(ray.get_runtime_context().get_node_id() == self._node_id)
