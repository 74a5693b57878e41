"""Every source of a snapshot is a data set of the run in MLflow."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlcluster.cli.recording import source_records
from mlcluster.data import LocalEngine, prepare
from mlcluster.spec import DataSpec
from mlcluster.tracking import DatasetRecord, RunRecord
from tests.data.data_tables import write_people

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120), pytest.mark.filterwarnings("default")]


def test_each_source_is_a_data_set_of_the_run(tmp_path: Path) -> None:
    from mlcluster.tracking.mlflow_tracker import MlflowTracker

    write_people(tmp_path)
    pq.write_table(pa.table({"person": range(200), "score": [0.5] * 200}), tmp_path / "scores.parquet")
    spec = DataSpec.model_validate(
        {
            "source": "people.parquet",
            "sources": {"scores": "scores.parquet"},
            "joins": [{"source": "scores", "on": "person"}],
            "target": "rich",
            "key": "person",
        }
    )
    snapshot = prepare(spec, base=tmp_path, folder=tmp_path / "s", seed=0, engine=LocalEngine(1))
    tracker = MlflowTracker(f"sqlite:///{tmp_path / 'store.db'}", experiment="one", artifact_folder=tmp_path / "a")
    run_id = tracker.begin("run")
    whole = DatasetRecord(name="whole", digest=snapshot.digest, source="people.parquet", schema={}, profile={})
    tracker.finish(run_id, RunRecord(name="run", dataset=whole, sources=source_records(snapshot)))
    inputs = tracker.client.get_run(run_id).inputs.dataset_inputs
    logged = {one.dataset.name: (one.dataset.digest, one.dataset.source_type, one.tags[0].value) for one in inputs}
    hashes = [one["sha256"] for one in snapshot.manifest["files"]]
    assert logged == {
        "whole": (snapshot.digest[:36], "local", "training"),
        "people": (hashes[0][:36], "file", "source"),
        "scores": (hashes[1][:36], "file", "source"),
    }
    scores = next(one.dataset for one in inputs if one.dataset.name == "scores")
    assert '"type": "long", "name": "person"' in scores.schema
    assert '"num_rows": 200' in scores.profile
