"""Runs in MLflow: parameters, metrics by step, the data set, plots and one child run a trial."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlcluster.errors import ClusterError
from mlcluster.tracking.records import DatasetRecord, RunRecord

_BATCH = 900
"""Metrics in one call; MLflow refuses more than 1,000."""
_MAX_PARAM_LENGTH = 500
_MAX_EXPERIMENTS = 1000


class MlflowTracker:
    """One experiment of a tracking store, which is a `sqlite:///` file or a server's URL."""

    def __init__(self, uri: str, *, experiment: str, artifact_folder: Path | None) -> None:
        """Connects, and makes the experiment where it is missing.

        Raises:
            ClusterError: the store does not answer, or is no MLflow store.
        """
        _quiet()
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        self.uri = uri
        try:
            self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            found = self._client.get_experiment_by_name(experiment)
            location = None if artifact_folder is None else artifact_folder.resolve().as_uri()
            self._experiment_id = (
                found.experiment_id if found else self._client.create_experiment(experiment, artifact_location=location)
            )
        except (MlflowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise ClusterError(f"tracking = {uri} cannot be used ({reason}); check the URI and its access.") from error

    @property
    def client(self) -> Any:
        """MLflow's own client, for the registry."""
        return self._client

    def begin(self, name: str) -> str:
        run = self._client.create_run(self._experiment_id, run_name=name)
        return str(run.info.run_id)

    def finish(self, run_id: str, record: RunRecord) -> None:
        self._write(run_id, record)
        for child in record.children:
            self._write_child(run_id, child)
        self._client.set_terminated(run_id, status="FAILED" if record.is_failed else "FINISHED")

    def artifacts(self, name: str, *, tags: Mapping[str, str], max_runs: int) -> list[bytes]:
        from mlflow.exceptions import MlflowException

        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found = []
        try:
            experiments = [one.experiment_id for one in self._client.search_experiments(max_results=_MAX_EXPERIMENTS)]
            runs = self._client.search_runs(experiments, wanted, max_results=max_runs)
        except MlflowException as error:
            reason = str(error).splitlines()[0]
            raise ClusterError(f"tracking = {self.uri} could not be searched ({reason}); check its access.") from error
        with tempfile.TemporaryDirectory() as folder:
            for run in runs:
                with contextlib.suppress(MlflowException, OSError):
                    path = self._client.download_artifacts(run.info.run_id, name, folder)
                    found.append(Path(path).read_bytes())
        return found

    def _write_child(self, parent_id: str, child: RunRecord) -> None:
        run = self._client.create_run(
            self._experiment_id,
            run_name=child.name,
            tags={"mlflow.parentRunId": parent_id},
            start_time=None if child.started_at is None else int(child.started_at * 1000),
        )
        self._write(run.info.run_id, child)
        self._client.set_terminated(run.info.run_id, status="FAILED" if child.is_failed else "FINISHED")

    def _write(self, run_id: str, record: RunRecord) -> None:
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(point.name, point.value, int(point.at * 1000), point.step) for point in record.metrics]
        params = [Param(name, str(value)[:_MAX_PARAM_LENGTH]) for name, value in record.params.items()]
        tags = [RunTag(name, value) for name, value in record.tags.items()]
        self._client.log_batch(run_id, metrics=metrics[:_BATCH], params=params, tags=tags)
        for start in range(_BATCH, len(metrics), _BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
        self._write_artifacts(run_id, record)
        datasets = [*([] if record.dataset is None else [record.dataset]), *record.sources]
        if datasets:
            self._client.log_inputs(run_id, datasets=[_dataset_input(dataset) for dataset in datasets])

    def _write_artifacts(self, run_id: str, record: RunRecord) -> None:
        if not record.artifacts:
            return
        with tempfile.TemporaryDirectory() as folder:
            for name, data in record.artifacts.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            self._client.log_artifacts(run_id, folder)


def _dataset_input(dataset: DatasetRecord) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    entity = Dataset(
        name=dataset.name,
        digest=dataset.digest[:36],
        source_type=dataset.kind,
        source=json.dumps({"uri": dataset.source}),
        schema=json.dumps(dataset.schema),
        profile=json.dumps(dataset.profile),
    )
    return DatasetInput(dataset=entity, tags=[InputTag("mlflow.data.context", dataset.context)])


def _quiet() -> None:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
