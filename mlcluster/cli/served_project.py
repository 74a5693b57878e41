"""What a project has deployed, from Python: its answers, the labels that came for them, and where they come from."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcluster.cli.bundle_keys import BundleKeys
from mlcluster.cli.data_project import DataProject
from mlcluster.cli.late_labels import add_labels
from mlcluster.cli.model_targets import ModelTargets
from mlcluster.cli.progress import Progress
from mlcluster.cli.ray_local import LocalRay, is_on_cluster
from mlcluster.cli.run_options import RunOptions
from mlcluster.cli.stores import open_tracker, registry_of
from mlcluster.cli.workspace import RunFolder
from mlcluster.data import DatasetSnapshot, conform, rows_to_table
from mlcluster.errors import SpecError
from mlcluster.spec import YamlDocument

if TYPE_CHECKING:
    import pyarrow as pa

    from mlcluster.monitor import LiveReport
    from mlcluster.serve import PredictionId, PredictionRecord
    from mlcluster.serve.batch import ScoreProgress
    from mlcluster.serve.predictor import Prediction, Predictor

_ON_ITS_WAY_SECONDS = 3.0


class ServedProject(DataProject):
    """The model that passed its gates, and what it has answered."""

    def __init__(
        self, document: YamlDocument, *, folder: Path, options: RunOptions | None = None, quiet: bool = True
    ) -> None:
        super().__init__(document, folder=folder, options=options)
        self._progress = Progress(quiet=quiet)

    def predict(self, rows: pa.Table | Sequence[Mapping[str, Any]]) -> Prediction:
        """The deployed model's answers to raw rows, in this process: an Arrow table, or a list of mappings.

        Raises:
            SpecError: no model has passed its gates yet.
            RowError: a column is missing, unknown or of another type; it names the column.
        """
        predictor = self.deployed()
        if isinstance(rows, Sequence):
            return predictor.predict(rows_to_table(rows, predictor.schema))
        return predictor.predict(conform(rows, predictor.schema))

    def score(self, rows: str, out: Path, *, kept: Sequence[str] | None = None) -> int:
        """The deployed model's answers to a table of any size, by path, glob or URI, as Parquet; see `serve.batch`.

        Raises:
            SpecError: no model has passed its gates yet.
            DataError: the rows cannot be read, or one does not fit the model; `out` stays as it was.
            BundleError: the model is damaged, or signed by nobody whom the project trusts.
        """
        from mlcluster.data.source import read_source
        from mlcluster.serve.batch import score_table

        run = self._deployed_run()
        source = read_source(rows, base=Path.cwd(), key="ROWS")
        started = time.monotonic()

        def tell(done: ScoreProgress) -> None:
            share = done.num_done / done.num_tasks
            left = f", {(time.monotonic() - started) * (1 / share - 1):.0f} s left" if share else ""
            self._progress.live(f"predict  {share:.0%} of {done.num_rows:,} rows{left}")

        bundle = run.bundle(run.state()["version"])
        self._keys().read_bundle(bundle)
        num_rows = score_table(source, bundle, out.absolute(), engine=self._engine(), kept=kept, say=tell)
        seconds = time.monotonic() - started
        self._progress.stage("predict", f"{num_rows:,} rows in {seconds:.1f} s ({num_rows / seconds:,.0f} a second)")
        return num_rows

    def deployed(self) -> Predictor:
        """The model behind the endpoint (or the newest that passed its gates), loaded here."""
        from mlcluster.serve.predictor import Predictor

        run = self._deployed_run()
        return Predictor(self._keys().read_bundle(run.bundle(run.state()["version"])))

    def snapshot(self) -> DatasetSnapshot:
        """The data that this model was learned from.

        Raises:
            SpecError: no model has passed its gates yet.
            DataError: the snapshot was altered or removed since.
        """
        return DatasetSnapshot.load(self._deployed_run().snapshot)

    def _deployed_run(self) -> RunFolder:
        self.workspace.latest_run()  # says so where there is no run at all
        for run in reversed(self.workspace.runs()):
            if run.state().get("version") is not None:
                return run
        raise SpecError("this project has no verified model yet; make one with `mlcluster run`.")

    def add_feedback(self, path: Path) -> int:
        """Adds labels that came later, from a file with the columns `prediction_id` and `label`; how many.

        They are of answers of the own model, or of one in `serve.also`.

        Raises:
            SpecError: no model has passed its gates yet.
            DataError: the file cannot be read, or a row is wrong; none of them is added.
        """
        return add_labels(path, self.workspace.predictions, self._targets().of_prediction)

    def live_quality(self) -> LiveReport:
        """How good the live answers are, model by model and version by version, by the labels that came for them.

        Raises:
            SpecError: no model has passed its gates yet.
        """
        from mlcluster.monitor import live_quality

        return live_quality(self.workspace.predictions, self._targets().of, seed=self.options.seed)

    def lineage(self, prediction_id: str) -> dict[str, Any]:
        """From a prediction id to the model version, trial, configuration, data, code and dollars."""
        from mlcluster.serve import parse_prediction_id
        from mlcluster.serve.feedback import read_feedback

        parsed = parse_prediction_id(prediction_id)
        if not self.workspace.has_tracking(self.spec.tracking):
            raise SpecError("this project has no run yet; start one with `mlcluster run`.")
        version = registry_of(open_tracker(self.spec, self.workspace)).version(parsed.model, parsed.version)
        record = self._record(parsed)
        labels = read_feedback(self.workspace.predictions)
        tags = {key.removeprefix("mlcluster."): value for key, value in version.tags.items()}
        return {
            "prediction": {
                "id": prediction_id,
                "record": None if record is None else asdict(record),
                "feedback": {str(row): item.label for (of, row), item in labels.items() if of == parsed.request_id},
            },
            "model_version": {"name": version.name, "version": version.version, "aliases": list(version.aliases)},
            "mlflow_run_id": version.run_id,
            "run": tags.get("run"),
            "trial": {"id": tags.get("trial"), "family": tags.get("family"), "usd": _number(tags.get("trial_usd"))},
            "configuration": json.loads(tags.get("configuration", "{}")),
            "data": {
                "snapshot": tags.get("snapshot"),
                "source": tags.get("source"),
                "sources": json.loads(tags.get("sources", "{}")),
            },
            "code": tags.get("code"),
            "bundle": tags.get("bundle"),
            "usd": _number(tags.get("usd")),
        }

    def _record(self, prediction: PredictionId) -> PredictionRecord | None:
        """What was asked and answered; None where that was not kept, or not any more."""
        from mlcluster.serve import find_record

        while True:
            record = find_record(self.workspace.predictions, prediction.request_id)
            # A replica writes once a second: an answer of just now is on its way.
            if record is not None or time.time() - prediction.milliseconds / 1000 > _ON_ITS_WAY_SECONDS:
                return record
            time.sleep(0.2)

    def endpoint(self) -> dict[str, Any] | None:
        """The record of what is being served, or None."""
        file = self.workspace.endpoint_file
        if not file.exists() or not (is_on_cluster() or LocalRay(self.workspace.ray).is_running()):
            return None
        return dict(json.loads(file.read_text()))

    def _targets(self) -> ModelTargets:
        run = self._deployed_run()
        target = DatasetSnapshot.load(run.snapshot).schema.target
        deployed = str(run.state()["version"])
        return ModelTargets(self.spec, self.workspace, self._keys(), deployed=deployed, target=target)

    def _keys(self) -> BundleKeys:
        return BundleKeys.read(self.spec.serve, self.folder)


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
