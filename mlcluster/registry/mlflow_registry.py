"""Bundles as MLflow model versions, and the aliases champion and challenger.

The version is a pyfunc model whose loader is a module of this package (`python_function.loader_module`), so that MLflow
pickles nothing: what it stores is the bundle's own files, and loading them runs installed code only.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcluster.data import TableSchema
from mlcluster.errors import ClusterError
from mlcluster.registry.bundle import Bundle
from mlcluster.registry.signature import TrustedKeys

LOADER_MODULE = "mlcluster.serve.mlflow_loader"
_BUNDLE = "bundle"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelVersion:
    """A registered version of a model."""

    name: str
    version: str
    run_id: str
    tags: Mapping[str, str]
    aliases: tuple[str, ...] = ()


class MlflowRegistry:
    """The model registry of one MLflow store; `client` is its `MlflowClient`."""

    def __init__(self, client: Any, *, uri: str) -> None:
        self._client = client
        self._uri = uri

    def next_version(self, name: str) -> str:
        """The number that the next registered version will get."""
        found = self._client.search_model_versions(f"name='{name}'")
        return str(1 + max((int(version.version) for version in found), default=0))

    def register(self, bundle: Bundle, *, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        """Stores `bundle` with a run and registers it under its card's name and version.

        Raises:
            ClusterError: another writer took the version number meanwhile.
        """
        import mlflow
        from mlflow.exceptions import MlflowException
        from mlflow.models import Model

        card = bundle.card
        with tempfile.TemporaryDirectory() as folder:
            bundle.write(Path(folder) / _BUNDLE)
            model_folder = Path(folder) / "model"
            model = Model(artifact_path="model", run_id=run_id)
            mlflow.pyfunc.save_model(
                path=str(model_folder),
                loader_module=LOADER_MODULE,
                data_path=str(Path(folder) / _BUNDLE),
                mlflow_model=model,
                signature=_signature(bundle.schema),
                input_example=_example(bundle),
                pip_requirements=["mlcluster"],
            )
            self._client.log_artifacts(run_id, str(model_folder), artifact_path="model")
        try:
            if not self._client.search_registered_models(f"name='{card.name}'"):
                self._client.create_registered_model(card.name)
            source = f"{self._client.get_run(run_id).info.artifact_uri}/model"
            version = self._client.create_model_version(card.name, source, run_id=run_id, tags=dict(tags))
        except MlflowException as error:
            raise ClusterError(f"model {card.name} cannot be registered ({str(error).splitlines()[0]}).") from error
        if str(version.version) != card.version:
            raise ClusterError(
                f"model {card.name} got version {version.version}, not {card.version}: another writer registers "
                "under the same name; run again."
            )
        return ModelVersion(name=card.name, version=str(version.version), run_id=run_id, tags=dict(tags))

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Points `champion` or `challenger` at a version."""
        self._client.set_registered_model_alias(name, alias, version)

    def aliased(self, name: str, alias: str) -> ModelVersion | None:
        """The version that an alias points at; None where there is no such alias, or no such model."""
        from mlflow.exceptions import MlflowException

        try:
            return self.version(name, self._client.get_model_version_by_alias(name, alias).version)
        except MlflowException:
            return None

    def bundle(self, version: ModelVersion, *, trusted: TrustedKeys | None) -> Bundle:
        """The bundle that was registered as `version`.

        Raises:
            BundleError: it is damaged, or signed by nobody who is trusted.
            ClusterError: the store does not give it.
        """
        import mlflow
        from mlflow.exceptions import MlflowException

        with tempfile.TemporaryDirectory() as folder:
            try:
                # Not by a `models:/` address, which MLflow looks up in the store of the process.
                model = self._client.get_model_version_download_uri(version.name, version.version)
                found = mlflow.artifacts.download_artifacts(
                    f"{model}/data/{_BUNDLE}", dst_path=folder, tracking_uri=self._uri
                )
            except (MlflowException, OSError) as error:
                raise ClusterError(
                    f"model {version.name} version {version.version} cannot be read from {self._uri} "
                    f"({str(error).splitlines()[0]}); was it registered by `mlcluster run`?"
                ) from error
            return Bundle.read(Path(found), trusted=trusted)

    def version(self, name: str, version: str) -> ModelVersion:
        """A registered version with its tags.

        Raises:
            ClusterError: there is none of that number.
        """
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_model_version(name, version)
        except MlflowException as error:
            raise ClusterError(
                f"model {name} has no version {version} in {self._uri}; check `tracking:` in the project file."
            ) from error
        return ModelVersion(
            name=name, version=version, run_id=found.run_id, tags=dict(found.tags), aliases=tuple(found.aliases)
        )


def _signature(schema: TableSchema) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    columns = [
        ColSpec(_mlflow_type(column.arrow_type), column.name, required=not column.has_missing)
        for column in schema.features
    ]
    if schema.target.task == "regression":
        output = ColSpec(DataType.double)
    else:
        kinds = {str: DataType.string, bool: DataType.boolean, int: DataType.long, float: DataType.double}
        output = ColSpec(kinds[type(schema.target.classes[0])])
    return ModelSignature(inputs=Schema(columns), outputs=Schema([output]))


def _mlflow_type(arrow_type: str) -> Any:
    from mlflow.types import DataType

    if arrow_type == "bool":
        return DataType.boolean
    if arrow_type in ("double", "float", "halffloat") or arrow_type.startswith("decimal"):
        return DataType.double
    if "int" in arrow_type:
        return DataType.long
    if arrow_type == "binary":
        return DataType.binary
    return DataType.string


def _example(bundle: Bundle) -> Any:
    import pandas as pd

    frame = pd.DataFrame(list(bundle.input_example), columns=list(bundle.schema.feature_names))
    for image in bundle.schema.images:
        frame[image.name] = [None if text is None else base64.b64decode(text) for text in frame[image.name]]
    return frame
