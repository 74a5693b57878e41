"""The tracking store and the registry of a project, as its workspace places them."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from mlcluster.cli.workspace import Workspace
from mlcluster.spec import ProjectSpec

if TYPE_CHECKING:
    from mlcluster.registry.mlflow_registry import MlflowRegistry
    from mlcluster.tracking.mlflow_tracker import MlflowTracker


def open_tracker(spec: ProjectSpec, workspace: Workspace) -> MlflowTracker:
    """The store that `tracking:` names; the artifacts of a SQLite store lie in the workspace.

    Raises:
        ClusterError: it cannot be used.
    """
    from mlcluster.tracking.mlflow_tracker import MlflowTracker

    uri = workspace.resolve_tracking(spec.tracking)
    is_file = uri.startswith("sqlite:")
    folder = workspace.root / "artifacts" if is_file else None
    if is_file:
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowTracker(uri, experiment=spec.project, artifact_folder=folder)


def registry_of(tracker: MlflowTracker) -> MlflowRegistry:
    """The model registry beside a tracking store."""
    from mlcluster.registry.mlflow_registry import MlflowRegistry

    return MlflowRegistry(tracker.client, uri=tracker.uri)


class LaterTracker:
    """A tracker that is being opened in a thread: MLflow's import and first migration take seconds."""

    def __init__(self, spec: ProjectSpec, workspace: Workspace) -> None:
        self.was_there = workspace.has_tracking(spec.tracking)
        """Whether there was a store before: a new one holds nothing."""
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._future: Future[MlflowTracker] = self._pool.submit(open_tracker, spec, workspace)

    def get(self) -> MlflowTracker:
        """Waits for it; raises what opening it has raised."""
        try:
            return self._future.result()
        finally:
            self._pool.shutdown(wait=False)
