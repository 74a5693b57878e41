"""One real `mlcluster run` of a sample, on the Ray that it starts itself, and what can be seen of it from outside."""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from mlcluster import Project
from mlcluster.cli.ray_local import LocalRay, is_port_free
from mlcluster.data import DatasetSnapshot
from mlcluster.serve import find_record
from mlcluster.tune import read_journal
from tests.cli.projects import Outcome, demo_in, free_ports, run_here, run_process

# Ray Serve, MLflow and Triton's client warn about their own use of pydantic, pandas and gevent when they are imported.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("default")]

SETTINGS = (
    *("--set", "tune.budget.minutes=0.5", "--set", "serve.replicas=1..3", "--set", "serve.target_ongoing=5"),
    *("--set", "serve.signing_key=team", "--set", "serve.trusted_keys=[team.pub]"),
)
PROMISED_KEYS = {
    "model_version", "family", "validation", "test", "baseline", "gates", "forecast_usd", "spent_usd", "cap_usd",
    "seconds", "trials", "endpoint", "run_id",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Served:
    """A project after its first run."""

    folder: Path
    port: int
    outcome: Outcome

    @property
    def summary(self) -> dict[str, Any]:
        return dict(self.outcome.json)

    @property
    def run_folder(self) -> Path:
        return self.folder / ".mlcluster" / "runs" / self.summary["run"]

    @property
    def words(self) -> tuple[str, ...]:
        return ("run", "--json", "--port", str(self.port), *SETTINGS)

    def processes(self) -> list[psutil.Process]:
        """Of the local Ray, the first is the one that was started."""
        state = json.loads((self.folder / ".mlcluster" / "ray" / "ray.json").read_text())
        first = psutil.Process(state["pid"])
        return [first, *first.children(recursive=True)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    port = free_ports(1)[0]
    with demo_in(tmp_path_factory.mktemp("run")) as folder:
        assert run_process(folder, "key", "signing", "team").code == 0
        outcome = run_process(folder, "run", "--json", "--port", str(port), *SETTINGS)
        assert outcome.code == 0, outcome.stderr
        yield Served(folder=folder, port=port, outcome=outcome)


@pytest.fixture(scope="module")
def snapshot(served: Served) -> DatasetSnapshot:
    return DatasetSnapshot.load(served.run_folder / "snapshot")


@pytest.fixture(scope="module")
def answer(served: Served) -> httpx.Response:
    """What the endpoint says to the request that `init` has written."""
    request = (served.folder / "request.json").read_bytes()
    return httpx.post(served.summary["infer_url"], content=request, timeout=60)


@pytest.fixture(scope="module")
def batch(served: Served, snapshot: DatasetSnapshot) -> list[dict[str, Any]]:
    """`mlcluster predict` of all test rows."""
    pq.write_table(snapshot.table("test"), served.folder / "test.parquet")
    predicted = run_here(served.folder, "predict", "--json", "test.parquet")
    assert predicted.code == 0, predicted.stderr
    return list(predicted.json["predictions"])


@pytest.fixture(scope="module")
def mlflow_client(served: Served) -> Any:
    from mlflow import MlflowClient

    uri = f"sqlite:///{served.folder / 'mlflow.db'}"
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def test_stdout_is_one_json_object_with_all_that_is_promised(served: Served) -> None:
    assert len(served.outcome.stdout.splitlines()) == 1
    assert set(served.summary) >= PROMISED_KEYS


def test_the_cap_holds_and_the_forecast_was_made_before(served: Served) -> None:
    summary = served.summary
    assert 0 < summary["spent_usd"] <= summary["cap_usd"]
    assert 0 < summary["forecast_usd"] <= summary["cap_usd"]
    assert summary["trials"] >= 5
    assert summary["lost_usd"] == 0


def test_a_later_study_of_another_project_begins_with_what_did_well_in_this_one(served: Served, tmp_path: Path) -> None:
    # Done once its first trials have shown that there is little more to find.
    settings = (f"tracking=sqlite:///{served.folder / 'mlflow.db'}", "tune.budget.minutes=0.4")
    settings += ("tune.worth.usd_per_point=0.0001",)
    with demo_in(tmp_path, "later") as folder:
        later = run_process(folder, "tune", "--json", *(f"--set={setting}" for setting in settings))
    assert later.code == 0, later.stderr
    assert f"configurations from demo {served.summary['run']}" in later.stderr
    study = folder / ".mlcluster" / "runs" / later.json["run"] / "study"
    first = json.loads((study / "first.json").read_text())
    starts = [event.data for event in read_journal(study / "journal.jsonl") if event.kind == "start"]
    begun = [start["candidate"] for start in starts if start["start_units"] == 0][: len(first["candidates"])]
    assert {"history", "portfolio"} == {candidate["origin"] for candidate in begun}
    assert begun == first["candidates"]


def test_several_nets_were_trained_as_one(served: Served) -> None:
    events = read_journal(served.run_folder / "study" / "journal.jsonl")
    starts = [event.data for event in events if event.kind == "start"]
    followers = [start for start in starts if start["piece"] != start["trial_id"]]
    assert {"mlp"} <= {start["candidate"]["family"] for start in followers} <= {"linear", "mlp"}


def test_the_model_beats_a_baseline_that_was_scored_too(served: Served) -> None:
    summary = served.summary
    for split in ("validation", "test"):
        assert summary["baseline"][split][summary["metric"]] == 0.5
        assert summary[split][summary["metric"]] > 0.9
    assert summary["passed"]
    assert [gate["status"] for gate in summary["gates"]] == ["passed"] * 2
    assert any(gate["gate"] == "roc_auc >= 0.9" and gate["lower"] >= 0.9 for gate in summary["gates"])


def test_progress_with_dollars_is_on_stderr_and_no_noise(served: Served) -> None:
    lines = served.outcome.stderr.splitlines()
    for stage in ("plan", "data", "tune", "verify", "record", "deploy"):
        assert any(line.startswith(stage) for line in lines), stage
    assert any(line.startswith("tune") and "$" in line and "left at most" in line for line in lines)
    assert any("cap $0.01" in line for line in lines)
    known = ("plan", "data", "tune", "verify", "record", "deploy", "  ")
    assert [line for line in lines if not line.startswith(known)] == []


def test_the_request_that_init_wrote_is_answered(answer: httpx.Response) -> None:
    assert answer.status_code == 200
    outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    assert outputs["label"] == ["malignant"]
    assert sum(outputs["probabilities"]) == pytest.approx(1.0)


def test_http_answers_every_test_row_as_the_batch_path_does(
    served: Served, snapshot: DatasetSnapshot, batch: list[dict[str, Any]]
) -> None:
    table = snapshot.table("test")
    inputs = [
        {"name": name, "shape": [table.num_rows, 1], "datatype": "FP64", "data": table[name].to_pylist()}
        for name in snapshot.schema.feature_names
    ]
    answered = httpx.post(served.summary["infer_url"], json={"inputs": inputs}, timeout=60).json()
    outputs = {output["name"]: output["data"] for output in answered["outputs"]}
    expected = [list(row["probabilities"].values()) for row in batch]
    assert len(expected) == snapshot.num_rows["test"]
    np.testing.assert_allclose(np.reshape(outputs["probabilities"], (-1, 2)), expected, rtol=0, atol=1e-6)
    assert outputs["label"] == [row["label"] for row in batch]


def test_a_project_in_python_answers_as_the_command_line_does(
    served: Served, snapshot: DatasetSnapshot, batch: list[dict[str, Any]]
) -> None:
    project = Project.load(served.folder / "mlcluster.yaml")
    features = snapshot.table("test").select(snapshot.schema.feature_names)
    assert project.predict(features).labels == [answer["label"] for answer in batch]
    assert project.predict(features.slice(0, 2).to_pylist()).labels == [answer["label"] for answer in batch[:2]]


def test_the_parity_test_that_init_wrote_holds(served: Served) -> None:
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    done = run_process(served.folder, "tests/test_parity.py", command=command)
    assert done.code == 0, done.stdout
    assert "2 passed" in done.stdout


def test_predict_reads_csv_and_json_as_it_reads_parquet(
    served: Served, snapshot: DatasetSnapshot, batch: list[dict[str, Any]]
) -> None:
    from pyarrow import csv

    table = snapshot.table("test").select(snapshot.schema.feature_names).slice(0, 5)
    csv.write_csv(table, served.folder / "rows.csv")
    (served.folder / "rows.json").write_text(json.dumps(table.to_pylist()))
    (served.folder / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in table.to_pylist()))
    for name in ("rows.csv", "rows.json", "rows.jsonl"):
        lines = run_here(served.folder, "predict", name).stdout.splitlines()
        assert [json.loads(line)["label"] for line in lines] == [row["label"] for row in batch[:5]], name


@pytest.mark.usefixtures("batch")
def test_a_model_is_asked_only_if_a_key_that_is_trusted_has_signed_it(served: Served, mlflow_client: Any) -> None:
    assert run_here(served.folder, "key", "signing", "theirs").code == 0

    def predicted(key: str) -> Outcome:
        keys = ("--set", f"serve.signing_key={key}", "--set", f"serve.trusted_keys=[{key}.pub]")
        return run_here(served.folder, "predict", "test.parquet", *keys)

    assert predicted("team").code == 0
    refused = predicted("theirs")
    assert (refused.code, refused.complaint.startswith("manifest.sig is by the key ")) == (2, True)
    unknown = run_here(served.folder, "plan", "--set", "serve.trusted_keys=[team.pub]")
    assert (unknown.code, "would refuse each new model" in unknown.complaint) == (2, True)
    bundle = served.run_folder / f"bundle-{served.summary['model_version']}"
    registered = Path(mlflow_client.download_artifacts(served.summary["run_id"], "model/data/bundle"))
    contents = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in (bundle, registered)]
    assert contents[0] == contents[1]
    assert "manifest.sig" in contents[0]


def test_a_whole_table_is_answered_into_parquet(
    served: Served, snapshot: DatasetSnapshot, batch: list[dict[str, Any]]
) -> None:
    pq.write_table(snapshot.table("test"), served.folder / "many.parquet", row_group_size=20)
    scored = run_here(served.folder, "predict", "many.parquet", "--out", "answers.parquet", "--json")
    assert scored.code == 0, scored.stderr
    assert scored.json == {"rows": len(batch), "out": "answers.parquet"}
    answers = pq.read_table(served.folder / "answers.parquet")
    assert answers["prediction"].to_pylist() == [answer["label"] for answer in batch]
    assert answers["mean_radius"].equals(snapshot.table("test")["mean_radius"])
    alone = run_here(served.folder, "predict", "many.parquet", "--keep", "mean_radius")
    assert (alone.code, alone.complaint.startswith("--keep = ")) == (2, True)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("none.csv", None, "none.csv cannot be read ("),
        ("rows.txt", "1", "rows.txt = .txt is no format that is read; use .parquet, .csv or .json."),
        ("torn.json", "[{", "torn.json cannot be read ("),
        ("number.json", "1", "the JSON holds no rows; give an object, a list of objects, or one object a line."),
        ("unknown.json", '{"mean_radiu": 1}', "mean_radiu"),
        ("missing.json", '{"mean_radius": 1}', ""),
        ("torn.parquet", "PAR1", "torn.parquet cannot be read ("),
    ],
)
def test_rows_that_cannot_be_predicted_are_refused(
    served: Served, name: str, content: str | None, complaint: str
) -> None:
    if content is not None:
        (served.folder / name).write_text(content)
    refused = run_here(served.folder, "predict", name)
    assert refused.code == 2
    assert refused.complaint.startswith(complaint)


def test_tritons_client_reads_the_metadata_and_infers(
    served: Served, snapshot: DatasetSnapshot, batch: list[dict[str, Any]]
) -> None:
    from tritonclient.http import InferenceServerClient, InferInput

    client = InferenceServerClient(f"127.0.0.1:{served.port}")
    try:
        assert client.is_model_ready("demo", served.summary["model_version"])
        metadata = client.get_model_metadata("demo")
        assert [tensor["name"] for tensor in metadata["inputs"]] == list(snapshot.schema.feature_names)
        table, inputs = snapshot.table("test").slice(0, 4), []
        for tensor in metadata["inputs"]:
            inputs.append(InferInput(tensor["name"], [4, 1], tensor["datatype"]))
            inputs[-1].set_data_from_numpy(np.array(table[tensor["name"]]).reshape(4, 1), binary_data=True)
        found = client.infer("demo", inputs).as_numpy("probabilities")
    finally:
        client.close()
    np.testing.assert_allclose(found, [list(row["probabilities"].values()) for row in batch[:4]], atol=1e-6)


def test_mlflows_own_client_and_loader_give_the_labels_of_the_batch_path(
    served: Served, snapshot: DatasetSnapshot, batch: list[dict[str, Any]], mlflow_client: Any
) -> None:
    import mlflow
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    labels = [row["label"] for row in batch]
    frame = snapshot.table("test").select(snapshot.schema.feature_names).to_pandas()
    client = ScoringServerClient("127.0.0.1", served.port)
    client.ping()
    assert client.invoke(frame)["predictions"] == labels
    before = mlflow.get_registry_uri(), mlflow.get_tracking_uri()
    try:
        mlflow.set_tracking_uri(f"sqlite:///{served.folder / 'mlflow.db'}")
        mlflow.set_registry_uri(f"sqlite:///{served.folder / 'mlflow.db'}")
        loaded = mlflow.pyfunc.load_model("models:/demo@champion")
        assert list(np.ravel(loaded.predict(frame))) == labels
    finally:
        mlflow.set_registry_uri(before[0])
        mlflow.set_tracking_uri(before[1])


def test_metrics_and_docs_are_served(served: Served, answer: httpx.Response) -> None:
    metrics = httpx.get(f"{served.summary['endpoint']}/metrics", timeout=30)
    assert metrics.status_code == 200
    assert "# TYPE" in metrics.text
    assert "<html" in httpx.get(f"{served.summary['endpoint']}/docs", timeout=30).text.lower()


def test_mlflow_shows_a_run_that_a_person_can_read(served: Served, mlflow_client: Any) -> None:
    summary = served.summary
    run = mlflow_client.get_run(summary["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["family"] == summary["family"]
    assert any(name.startswith(f"{summary['family']}.") for name in run.data.params)
    assert run.data.metrics["test_roc_auc"] == pytest.approx(summary["test"]["roc_auc"])
    assert 0 < run.data.metrics["spent_usd"] <= summary["spent_usd"]
    history = mlflow_client.get_metric_history(run.info.run_id, "best_roc_auc_by_microdollar")
    assert [one.value for one in history] == sorted(one.value for one in history)
    assert [one.step for one in history] == sorted(one.step for one in history)
    datasets = {one.tags[0].value: one.dataset for one in run.inputs.dataset_inputs}
    assert datasets["training"].digest == run.data.tags["mlcluster.snapshot"][:36]
    table = (served.folder / "data" / "breast_cancer.parquet").read_bytes()
    assert datasets["source"].digest == hashlib.sha256(table).hexdigest()[:36]
    assert (datasets["source"].name, len(datasets)) == ("breast_cancer", 2)


def test_mlflow_holds_the_plots_as_pictures(served: Served, mlflow_client: Any) -> None:
    run_id = served.summary["run_id"]
    plots = {one.path for one in mlflow_client.list_artifacts(run_id, "plots")}
    names = ("score_against_dollars", "cost_by_family", "forecast_against_actual")
    assert plots == {f"plots/{name}.png" for name in names}
    for plot in plots:
        picture = Path(mlflow_client.download_artifacts(run_id, plot)).read_bytes()
        assert picture.startswith(b"\x89PNG\r\n\x1a\n")


def test_mlflow_holds_the_report_and_how_true_the_forecasts_were(served: Served, mlflow_client: Any) -> None:
    run_id = served.summary["run_id"]
    page = Path(mlflow_client.download_artifacts(run_id, "report.html")).read_text(encoding="utf-8")
    assert page == (served.run_folder / "report.html").read_text(encoding="utf-8")
    about_data = Path(mlflow_client.download_artifacts(run_id, "data/profile.html")).read_text(encoding="utf-8")
    assert about_data.startswith("<!doctype html>")
    told = json.loads(Path(mlflow_client.download_artifacts(run_id, "data/profile.json")).read_text(encoding="utf-8"))
    assert told["num_rows"] == sum(told["num_split_rows"].values())
    assert f"Trial <b>{served.summary['trial']}</b> wins" in page
    metrics = mlflow_client.get_run(run_id).data.metrics
    assert metrics["forecast_median_abs_log_error"] > 0
    assert 0 < metrics["forecast_under_worst_case_share"] <= 1
    assert metrics["forecast_num_segments"] >= served.summary["trials"]


def test_the_story_of_the_winner_is_told_and_its_dollars_are_the_ledgers(served: Served) -> None:
    story = run_here(served.folder, "tune", "--explain", served.summary["trial"], "--json").json
    cost = run_here(served.folder, "cost", "--json").json
    (booked,) = [one["usd"] for one in cost["trials"] if one["id"] == served.summary["trial"]]
    assert story["usd"] == pytest.approx(booked)
    assert all(segment["decision"]["reason"] for segment in story["segments"])
    text = run_here(served.folder, "tune", "--explain")
    assert (text.code, text.stderr) == (0, "")
    assert f"{served.summary['trials']} trials" in text.stdout.splitlines()[0]


def test_the_report_can_be_written_anew(served: Served) -> None:
    before = (served.run_folder / "report.html").read_text(encoding="utf-8")
    written = run_here(served.folder, "report", "--json")
    assert written.code == 0
    assert written.json["winner"]["trial_id"] == served.summary["trial"]
    assert (served.run_folder / "report.html").read_text(encoding="utf-8") == before


def test_each_trial_is_a_child_run_with_its_learning_curve_and_dollars(served: Served, mlflow_client: Any) -> None:
    run_id = served.summary["run_id"]
    experiment = mlflow_client.get_run(run_id).info.experiment_id
    children = mlflow_client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'", max_results=1000)
    assert len(children) == served.summary["trials"]
    winner = next(one for one in children if one.info.run_name.startswith(f"{served.summary['trial']} "))
    assert winner.data.params["family"] == served.summary["family"]
    assert winner.data.metrics["usd"] > 0
    assert len(mlflow_client.get_metric_history(winner.info.run_id, "roc_auc")) >= 1


def test_the_model_version_has_its_alias_signature_and_example(
    served: Served, snapshot: DatasetSnapshot, mlflow_client: Any
) -> None:
    from mlflow.models import Model

    version = mlflow_client.get_model_version_by_alias("demo", "champion")
    assert (str(version.version), version.run_id) == (served.summary["model_version"], served.summary["run_id"])
    model = Model.load(mlflow_client.download_artifacts(version.run_id, "model"))
    assert model.signature.inputs.input_names() == list(snapshot.schema.feature_names)
    assert model.saved_input_example_info is not None
    assert list(Path(mlflow_client.download_artifacts(version.run_id, "model")).rglob("*.pkl")) == []


def test_a_label_that_comes_later_is_joined_with_its_prediction(served: Served, tmp_path: Path) -> None:
    request = (served.folder / "request.json").read_bytes()
    prediction_id = httpx.post(served.summary["infer_url"], content=request, timeout=60).headers["x-prediction-id"]
    url = served.summary["infer_url"].partition("/v2/")[0]
    told = httpx.post(f"{url}/feedback", json={"prediction_id": prediction_id, "label": "benign"}, timeout=60)
    assert (told.status_code, told.json()) == (200, {"accepted": 1}), told.text
    assert run_here(served.folder, "lineage", "--json", prediction_id).json["prediction"]["feedback"] == {"0": "benign"}
    deadline = time.monotonic() + 30  # a record reaches its file within a second of its answer
    while find_record(served.folder / ".mlcluster" / "predictions", prediction_id) is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    watched = httpx.get(served.summary["infer_url"].removesuffix("/infer") + "/statistics", timeout=60).json()
    assert (watched["version"], watched["num_reference_rows"] > 100) == (served.summary["model_version"], True)
    assert watched["num_rows"] > 0
    assert all(sum(column["counts"]) == watched["num_rows"] for column in watched["features"])
    (tmp_path / "late.json").write_text(json.dumps({"prediction_id": f"{prediction_id}#0", "label": "malignant"}))
    found = run_here(served.folder, "feedback", str(tmp_path / "late.json"), "--json").json
    (version,) = found["versions"]
    assert (found["added"], version["version"], version["num_labelled"]) == (1, served.summary["model_version"], 1)
    assert version["shortage"].startswith("not enough data (1 rows")
    assert "1 with a label" in run_here(served.folder, "feedback").stdout
    (tmp_path / "wrong.csv").write_text(f"prediction_id,label\n{prediction_id},unsure\n")
    refused = run_here(served.folder, "feedback", str(tmp_path / "wrong.csv"))
    assert (refused.code, "row 0: label = 'unsure' is no class of" in refused.complaint) == (2, True)


def test_a_prediction_is_traced_to_everything_it_came_from(
    served: Served, snapshot: DatasetSnapshot, answer: httpx.Response
) -> None:
    prediction_id = answer.headers["x-prediction-id"]
    found = run_here(served.folder, "lineage", "--json", prediction_id).json
    summary = served.summary
    assert found["prediction"]["record"]["outputs"]["label"] == ["malignant"]
    assert found["model_version"] == {"name": "demo", "version": summary["model_version"], "aliases": ["champion"]}
    assert found["trial"]["id"] == summary["trial"]
    assert found["trial"]["family"] == summary["family"]
    assert 0 < found["trial"]["usd"] <= found["usd"] <= summary["spent_usd"]
    assert found["mlflow_run_id"] == summary["run_id"]
    table = (served.folder / "data" / "breast_cancer.parquet").read_bytes()
    assert found["data"] == {
        "snapshot": snapshot.digest,
        "source": "data/breast_cancer.parquet",
        "sources": {"breast_cancer": hashlib.sha256(table).hexdigest()},
    }
    result = json.loads((served.run_folder / "study" / "result.json").read_text())
    assert found["configuration"] == result["trials"][summary["trial"]]["configuration"]
    assert found["code"]
    text = run_here(served.folder, "lineage", prediction_id)
    assert (text.code, text.stderr) == (0, "")
    assert summary["run_id"] in text.stdout


def test_the_lineage_of_what_was_never_answered_is_refused(served: Served) -> None:
    refused = run_here(served.folder, "lineage", f"demo.99.{0:032x}")
    assert refused.code == 2
    assert refused.complaint.startswith("model demo has no version 99 in ")
    unknown = run_here(served.folder, "lineage", "--json", f"demo.{served.summary['model_version']}.{0:032x}")
    assert unknown.json["prediction"]["record"] is None


def test_the_costs_add_up(served: Served) -> None:
    cost = run_here(served.folder, "cost", "--json").json
    assert cost["spent_usd"] == pytest.approx(served.summary["spent_usd"])
    assert cost["cap_usd"] == served.summary["cap_usd"]
    assert sum(stage["usd"] for stage in cost["stages"]) == pytest.approx(cost["spent_usd"])
    assert sum(stage["forecast_usd"] for stage in cost["stages"]) == pytest.approx(cost["forecast_usd"])
    search = next(stage for stage in cost["stages"] if stage["stage"] == "tune")
    assert sum(trial["usd"] for trial in cost["trials"]) + cost["idle_usd"] == pytest.approx(search["usd"])
    assert cost["idle_usd"] >= 0
    assert all(trial["usd"] > 0 and trial["forecast_usd"] > 0 for trial in cost["trials"])
    assert len(cost["trials"]) == served.summary["trials"]
    text = run_here(served.folder, "cost").stdout
    assert all(trial["id"] in text for trial in cost["trials"])


def test_status_says_what_answers(served: Served) -> None:
    status = run_here(served.folder, "status", "--json").json
    assert status["run"]["id"] == served.summary["run"]
    assert status["run"]["is_finished"]
    assert status["endpoint"]["is_ready"]
    assert status["endpoint"]["url"] == served.summary["endpoint"]
    text = run_here(served.folder, "status").stdout
    assert f"endpoint  {served.summary['endpoint']} answers" in text


IN_RAY = """
import json, sys
from pathlib import Path
from mlcluster.cli.ray_local import LocalRay
LocalRay(Path(".mlcluster/ray")).connect(num_cpus=1)
from ray import serve
app = json.loads(Path(".mlcluster/endpoint.json").read_text())["app_name"]
from ray.serve.context import _get_global_client
details = _get_global_client().get_serve_details()
print(json.dumps(details["applications"][app]["deployments"]["model"]["deployment_config"], default=str))
"""


def test_doctor_finds_no_fault_in_the_projects_own_endpoint(served: Served) -> None:
    checked = run_here(served.folder, "doctor", "--json", "--port", str(served.port))
    assert checked.code == 0, checked.stdout
    found = {check["name"]: check["found"] for check in checked.json["checks"]}
    assert found["port"] == f"{served.port} is in use by this project's endpoint"


def test_the_endpoint_scales_as_the_project_file_says(served: Served) -> None:
    found = run_process(served.folder, command=(sys.executable, "-c", IN_RAY), timeout=90)
    assert found.code == 0, found.stderr
    autoscaling = found.json["autoscaling_config"]
    assert (autoscaling["min_replicas"], autoscaling["max_replicas"]) == (1, 3)
    assert autoscaling["target_ongoing_requests"] == 5


def test_everything_listens_on_loopback_only(served: Served) -> None:
    listening = {
        (process.name(), connection.laddr.ip, connection.laddr.port)
        for process in served.processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert served.port in {port for _, _, port in listening}
    assert {one for one in listening if one[1] not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")} == set()


def test_what_the_workspace_holds_is_its_owners_alone(served: Served) -> None:
    workspace = served.folder / ".mlcluster"
    assert (workspace / "ray" / "token").stat().st_mode & 0o777 == 0o600
    for folder in (workspace, workspace / "ray"):
        assert folder.stat().st_mode & 0o077 == 0, folder
    for ledger in workspace.glob("runs/*/ledger-*.jsonl"):
        assert ledger.stat().st_mode & 0o777 == 0o600


CONNECT = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False); print('connected')"


def test_a_client_without_the_right_token_is_not_let_in(served: Served, tmp_path: Path) -> None:
    address = json.loads((served.folder / ".mlcluster" / "ray" / "ray.json").read_text())["address"]
    (tmp_path / "token").write_text("0" * 64)
    (tmp_path / "token").chmod(0o600)
    knocks = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"),
        "RAY_NUM_REDIS_GET_RETRIES": "1",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    outside = run_process(tmp_path, command=(sys.executable, "-c", CONNECT, address), env=knocks, timeout=100)
    assert outside.code != 0
    assert "connected" not in outside.stdout
    right = {**knocks, "RAY_AUTH_TOKEN_PATH": str((served.folder / ".mlcluster" / "ray" / "token").resolve())}
    inside = run_process(tmp_path, command=(sys.executable, "-c", CONNECT, address), env=right, timeout=100)
    assert inside.stdout == "connected\n"


def test_another_port_than_the_one_that_serves_is_refused_at_once(served: Served) -> None:
    other = free_ports(1)[0]
    refused = run_here(served.folder, "run", "--port", str(other), *SETTINGS)
    assert refused.code == 2
    assert refused.stderr.splitlines()[-1] == (
        f"mlcluster: --port = {other} is not where the endpoint is, which serves at port {served.port}; "
        f"give --port {served.port}, or end it first with `mlcluster down`."
    )


def test_the_same_command_again_takes_the_search_that_is_done_and_goes_on_serving(served: Served) -> None:
    journal = served.run_folder / "study" / "journal.jsonl"
    before = journal.read_bytes()
    again = run_process(served.folder, *served.words)
    assert again.code == 0, again.stderr
    assert f"study of {served.summary['trials']} trials is there already" in again.stderr
    assert journal.read_bytes() == before
    assert again.json["trial"] == served.summary["trial"]
    assert again.json["test"] == served.summary["test"]
    assert again.json["spent_usd"] < again.json["cap_usd"]
    metadata = httpx.get(f"{again.json['endpoint']}/v2/models/demo", timeout=30).json()
    assert metadata["versions"] == [again.json["model_version"]]
    cost = run_here(served.folder, "cost", "--json").json
    assert cost["spent_usd"] == pytest.approx(again.json["spent_usd"])
    assert all(trial["usd"] == 0 for trial in cost["trials"])


def test_keys_and_tls_count_from_the_next_deployment_on_and_so_does_their_end(served: Served) -> None:
    secret = run_process(served.folder, "key", "api", "anna").stdout.strip()
    made = run_process(served.folder, "key", "tls", "tls", "127.0.0.1")
    assert made.code == 0, made.stderr
    (grpc_port,) = free_ports(1)
    settings = ("api_keys=api-keys.json", "tls_certificate=tls/node.crt", "tls_key=tls/node.key")
    settings += (f"grpc_port={grpc_port}",)
    closed = run_process(served.folder, *served.words, *(f"--set=serve.{setting}" for setting in settings))
    assert closed.code == 0, closed.stderr
    url = closed.json["infer_url"]
    assert url.startswith("https://127.0.0.1:")
    request = (served.folder / "request.json").read_bytes()
    trusting = ssl.create_default_context(cafile=served.folder / "tls" / "ca.crt")
    with httpx.Client(verify=trusting, timeout=60) as client:
        assert client.post(url, content=request).status_code == 401
        answer = client.post(url, content=request, headers={"authorization": f"Bearer {secret}"})
        assert answer.json()["outputs"][0]["data"] == ["malignant"]
    assert f"and by gRPC at 127.0.0.1:{grpc_port}" in closed.stderr
    label, probabilities = labels_by_grpc(grpc_port, served.folder, json.loads(request), secret)
    assert [label, probabilities] == [output["data"] for output in answer.json()["outputs"]]
    for log in (served.folder / ".mlcluster").rglob("*.log"):
        assert secret not in log.read_text(errors="replace")
    again = run_process(served.folder, *served.words)
    assert again.code == 0, again.stderr
    assert httpx.post(again.json["infer_url"], content=request, timeout=60).status_code == 200
    assert is_port_free("127.0.0.1", grpc_port)


def labels_by_grpc(port: int, folder: Path, document: dict[str, Any], secret: str) -> tuple[list[str], list[float]]:
    """What the endpoint says to a request of JSON that is sent by gRPC."""
    import grpc

    from mlcluster.serve.grpc.messages import MESSAGES, SERVICE

    message = MESSAGES["ModelInferRequest"](model_name="demo")
    fields = {"FP64": "fp64_contents", "INT64": "int64_contents", "BYTES": "bytes_contents", "BOOL": "bool_contents"}
    for tensor in document["inputs"]:
        sent = message.inputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
        getattr(sent.contents, fields[tensor["datatype"]]).extend(tensor["data"])
    trusted = grpc.ssl_channel_credentials((folder / "tls" / "ca.crt").read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{port}", trusted) as channel:
        infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            infer(message.SerializeToString(), timeout=20)
        answer = infer(message.SerializeToString(), timeout=20, metadata=(("x-api-key", secret),))
    label, probabilities = MESSAGES["ModelInferResponse"].FromString(answer).outputs
    return [text.decode() for text in label.contents.bytes_contents], list(probabilities.contents.fp64_contents)


def test_a_failed_gate_deploys_nothing(served: Served, mlflow_client: Any) -> None:
    champion = mlflow_client.get_model_version_by_alias("demo", "champion").version
    failed = run_process(served.folder, *served.words, "--set", "verify=[roc_auc >= 0.9999]")
    assert failed.code == 3
    assert not failed.json["passed"]
    assert failed.json["endpoint"] is None
    assert "failed" in {gate["status"] for gate in failed.json["gates"]}
    assert failed.stderr.splitlines()[-1].startswith("mlcluster: verify: 1 of 2 failed (roc_auc >= 0.9999: ")
    challenger = mlflow_client.get_model_version_by_alias("demo", "challenger")
    assert str(challenger.version) == failed.json["model_version"] != str(champion)
    assert mlflow_client.get_run(challenger.run_id).info.status == "FAILED"
    assert mlflow_client.get_model_version_by_alias("demo", "champion").version == champion
    metadata = httpx.get(f"http://127.0.0.1:{served.port}/v2/models/demo", timeout=30).json()
    assert metadata["versions"] == [str(champion)]
    predicted = run_here(served.folder, "predict", "--json", "data/breast_cancer.parquet")
    assert predicted.json["version"] == str(champion)


def test_the_challenger_answers_beside_the_champion_by_its_alias_and_its_version(served: Served) -> None:
    """After the failed gate, whose model became the challenger."""
    also = "serve.also=[demo@challenger, demo/1, demo@canary]"
    deployed = run_process(served.folder, *served.words, "--set", also)
    assert deployed.code == 0, deployed.stderr
    versions, ids = {}, {}
    request = (served.folder / "request.json").read_bytes()
    url = f"http://127.0.0.1:{served.port}/v2/models"
    for name in ("demo", "demo@champion", "demo@challenger", "demo/versions/1"):
        answer = httpx.post(f"{url}/{name}/infer", content=request, timeout=60)
        assert answer.status_code == 200, answer.text
        versions[name] = answer.json()["model_version"]
        ids[name] = answer.headers["x-prediction-id"]
        found = run_here(served.folder, "lineage", "--json", ids[name]).json
        assert found["model_version"]["version"] == versions[name]
    assert versions["demo"] == versions["demo@champion"] == deployed.json["model_version"]
    assert versions["demo/versions/1"] == "1"
    assert len(set(versions.values())) == 3
    status = run_here(served.folder, "status")
    assert f"beside    demo version {versions['demo@challenger']} @challenger" in status.stdout
    assert "demo@canary is not served: MLflow has no such alias yet" in deployed.stderr
    assert httpx.post(f"{url}/demo@canary/infer", content=request, timeout=60).status_code == 404
    _label_by_http_and_from_a_file(served, ids["demo@challenger"], ids["demo/versions/1"])


def _label_by_http_and_from_a_file(served: Served, challenger: str, former: str) -> None:
    """Both versions answer beside the champion."""
    told = httpx.post(
        f"http://127.0.0.1:{served.port}/feedback",
        json={"prediction_id": challenger, "label": "benign"},
        timeout=60,
    )
    assert told.json() == {"accepted": 1}
    (served.folder / "late.csv").write_text(f"prediction_id,label\n{former},malignant\n")
    before = _num_labelled(run_here(served.folder, "feedback", "--json").json)
    report = run_here(served.folder, "feedback", "late.csv", "--json").json
    after = _num_labelled(report)
    assert report["added"] == 1
    assert sum(after.values()) == sum(before.values()) + 1
    for prediction_id, label in ((challenger, "benign"), (former, "malignant")):
        name, version, _ = prediction_id.split(".")
        assert after[name, version] == before.get((name, version), 0) + (prediction_id == former) >= 1
        assert run_here(served.folder, "lineage", "--json", prediction_id).json["prediction"]["feedback"] == {
            "0": label
        }
        assert f"{name} version {version}: " in run_here(served.folder, "feedback").stdout


def _num_labelled(report: dict[str, Any]) -> dict[tuple[str, str], int]:
    return {(one["model"], one["version"]): one["num_labelled"] for one in report["versions"]}


def test_models_that_are_not_there_or_do_not_fit_are_refused_and_the_endpoint_goes_on(served: Served) -> None:
    for settings, complaint in (
        (["also=[demo/99]"], r"serve\.also = demo/99 is not registered \(model demo has no version 99 in "),
        (["also=[demo/1]", "also_mb=0.1"], r"serve\.also_mb = 0\.1 is less than the \d+ MB that demo/1 may take;"),
    ):
        refused = run_process(served.folder, *served.words, *(f"--set=serve.{setting}" for setting in settings))
        assert refused.code == 2
        assert re.search(complaint, refused.stderr.splitlines()[-1])
    assert run_here(served.folder, "status", "--json").json["endpoint"]["is_ready"]


def test_down_leaves_no_process_and_a_free_port(served: Served) -> None:
    processes = served.processes()
    temporary = Path(json.loads((served.folder / ".mlcluster" / "ray" / "ray.json").read_text())["temp_dir"])
    ended = run_here(served.folder, "down")
    assert (ended.code, ended.stdout, ended.stderr) == (0, "ended\n", "")
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []
    assert is_port_free("127.0.0.1", served.port)
    assert not temporary.exists()
    assert not LocalRay(served.folder / ".mlcluster" / "ray").is_running()
    assert run_here(served.folder, "down").stdout == "nothing was running\n"
    assert run_here(served.folder, "status", "--json").json["endpoint"] is None
