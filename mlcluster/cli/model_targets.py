"""What the versions predict whose answers a project keeps: its own, and those of the models beside it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from mlcluster.cli.bundle_keys import BundleKeys
from mlcluster.cli.stores import open_tracker, registry_of
from mlcluster.cli.workspace import Workspace
from mlcluster.data import TargetColumn
from mlcluster.errors import BundleError, ClusterError, DataError
from mlcluster.spec import ProjectSpec

if TYPE_CHECKING:
    from mlcluster.registry.mlflow_registry import MlflowRegistry
    from mlcluster.serve import PredictionId


class ModelTargets:
    """The target of each version, from its registered bundle; MLflow is opened for others than the deployed one."""

    def __init__(
        self, spec: ProjectSpec, workspace: Workspace, keys: BundleKeys, *, deployed: str, target: TargetColumn
    ) -> None:
        """`deployed` is the own version that predicts `target`, as do own versions that are not registered any more."""
        self._spec = spec
        self._workspace = workspace
        self._keys = keys
        self._own = target
        self._found: dict[tuple[str, str], TargetColumn | None] = {(spec.project, deployed): target}
        self._names = tuple(dict.fromkeys((spec.project, *(name.name for name in spec.serve.also))))

    def of(self, model: str, version: str) -> TargetColumn | None:
        """None where that is registered nowhere, or cannot be read."""
        key = (model, version)
        if key not in self._found:
            self._found[key] = self._registered(model, version) or (self._own if model == self._spec.project else None)
        return self._found[key]

    def of_prediction(self, prediction: PredictionId) -> TargetColumn:
        """The target of the version that the id names.

        Raises:
            DataError: its model is neither the project's own nor in `serve.also`, or its version is not registered.
        """
        from mlcluster.serve.label_targets import unknown_model

        if prediction.model not in self._names:
            raise unknown_model(prediction, self._names)
        found = self.of(prediction.model, prediction.version)
        if found is None:
            raise DataError(
                f"prediction id = {prediction.request_id} is of version {prediction.version} of {prediction.model}, "
                f"which cannot be read from {self._spec.tracking}; check `tracking:` and serve.trusted_keys."
            )
        return found

    @cached_property
    def _registry(self) -> MlflowRegistry:
        return registry_of(open_tracker(self._spec, self._workspace))

    def _registered(self, model: str, version: str) -> TargetColumn | None:
        if not self._workspace.has_tracking(self._spec.tracking):
            return None
        try:
            registered = self._registry.version(model, version)
            return self._registry.bundle(registered, trusted=self._keys.trusted).schema.target
        except (BundleError, ClusterError):
            return None
