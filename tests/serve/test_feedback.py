"""Labels that come later: over HTTP, on disk before they are acknowledged, and joined with what was predicted."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlcluster.data import TargetColumn
from mlcluster.monitor import live_quality
from mlcluster.serve import PredictionLog, Predictor, build_app, new_prediction_id
from mlcluster.serve.feedback import FILE, FeedbackLog, read_feedback
from tests.registry.bundles import Task, sample_bundle, sample_table
from tests.serve.app_client import AppClient

ID = "demo.3." + "0" * 32


class LiveApp:
    """An application whose records and labels lie in a folder."""

    def __init__(self, folder: Path, task: Task = "binary") -> None:
        self.folder = folder
        self.predictor = Predictor(sample_bundle(task))
        self.sink = PredictionLog(folder)
        self.client = AppClient(build_app(self.predictor, record=self.sink, feedback=FeedbackLog(folder)))

    def answer(self, num_rows: int, seed: int) -> tuple[str, list[Any]]:
        """A prediction id, and what was predicted."""
        rows = sample_table(num_rows, seed=seed).to_pylist()
        answer = self.client.post("/invocations", json={"dataframe_records": rows})
        assert answer.status_code == 200, answer.text
        return answer.headers["x-prediction-id"], answer.json()["predictions"]

    def target_of(self, model: str, version: str) -> TargetColumn:
        return self.predictor.schema.target

    def tell(self, body: Any) -> Any:
        return self.client.post("/feedback", json=body)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveApp]:
    app = LiveApp(tmp_path / "predictions")
    yield app
    app.client.close()
    app.sink.close()


def test_a_label_is_on_disk_when_it_is_acknowledged(live: LiveApp) -> None:
    answer = live.tell({"prediction_id": f"{ID}#4", "label": "yes"})
    assert (answer.status_code, answer.json()) == (200, {"accepted": 1})
    (item,) = read_feedback(live.folder).values()
    assert (item.id, item.row, item.label) == (ID, 4, "yes")
    assert stat.S_IMODE((live.folder / FILE).stat().st_mode) == 0o600


def test_the_newest_label_of_a_row_holds_and_a_line_cut_short_is_none(live: LiveApp) -> None:
    for label in ("yes", "no"):
        assert live.tell({"feedback": [{"prediction_id": ID, "label": label}]}).status_code == 200
    with (live.folder / FILE).open("a") as file:
        file.write('{"id": "demo.3')
    assert {key: item.label for key, item in read_feedback(live.folder).items()} == {(ID, 0): "no"}


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "feedback[0].prediction_id"),
        ({"prediction_id": ID}, 422, "feedback[0].label"),
        ({"prediction_id": ID, "label": "maybe"}, 422, "feedback[0].label"),
        ({"prediction_id": ID, "label": True}, 422, "feedback[0].label"),
        ({"prediction_id": ID, "label": None}, 422, "feedback[0].label"),
        ({"prediction_id": ID, "label": "yes", "lable": 1}, 422, "lable"),
        ({"prediction_id": "demo.3.0", "label": "yes"}, 422, "feedback[0].prediction_id"),
        ({"prediction_id": "other.3." + "0" * 32, "label": "yes"}, 422, "feedback[0].prediction_id"),
        ({"prediction_id": 7, "label": "yes"}, 422, "feedback[0].prediction_id"),
        ({"feedback": []}, 422, "feedback"),
        ({"feedback": {"prediction_id": ID, "label": "yes"}}, 422, "feedback"),
        ({"feedback": ["yes"]}, 422, "feedback[0]"),
        (
            {"feedback": [{"prediction_id": ID, "label": "yes"}, {"prediction_id": ID, "label": 1}]},
            422,
            "feedback[1].label",
        ),
        ([], 400, None),
    ],
)
def test_what_is_wrong_names_its_field_and_nothing_is_written(
    live: LiveApp, body: Any, status: int, field: str | None
) -> None:
    answer = live.tell(body)
    assert (answer.status_code, answer.json().get("field")) == (status, field), answer.text
    assert not (live.folder / FILE).exists()


def test_labels_that_cannot_be_written_are_refused_and_may_come_again(tmp_path: Path) -> None:
    (tmp_path / "predictions").write_text("no folder")
    client = AppClient(
        build_app(Predictor(sample_bundle()), record=_Nothing(), feedback=FeedbackLog(tmp_path / "predictions"))
    )
    answer = client.post("/feedback", json={"prediction_id": ID, "label": "yes"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    client.close()


class _Nothing:
    num_lost = 0

    def write(self, make: object) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def test_without_a_place_for_labels_there_is_no_route(tmp_path: Path) -> None:
    client = AppClient(build_app(Predictor(sample_bundle()), record=_Nothing()))
    assert client.post("/feedback", json={"prediction_id": ID, "label": "yes"}).status_code == 404
    assert "/feedback" not in client.get("/openapi.json").json()["paths"]
    client.close()


def test_the_example_of_the_documentation_is_taken(live: LiveApp) -> None:
    operation = live.client.get("/openapi.json").json()["paths"]["/feedback"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert live.tell(example).json() == {"accepted": 1}


def test_live_quality_is_that_of_the_rows_whose_labels_came(live: LiveApp) -> None:
    rng = np.random.default_rng(7)
    labels, hits = [], 0
    for seed in range(20):
        prediction_id, predicted = live.answer(5, seed)
        for row in range(4):  # the fifth never gets one
            truth = str(rng.choice(["yes", "no"]))
            hits += truth == predicted[row]
            labels.append({"prediction_id": f"{prediction_id}#{row}", "label": truth})
    assert live.tell({"feedback": labels}).json() == {"accepted": 80}
    assert live.tell({"prediction_id": new_prediction_id("demo", "3"), "label": "yes"}).status_code == 200
    live.sink.flush()
    report = live_quality(live.folder, live.target_of)
    (version,) = report.versions
    assert (version.version, version.num_rows, version.num_labelled, report.num_unknown) == ("3", 100, 80, 1)
    accuracy = version.measures["accuracy"]
    assert accuracy.value == hits / 80
    assert accuracy.lower < accuracy.value < accuracy.upper
    assert {"log_loss", "f1"} <= set(version.measures)
    assert report == live_quality(live.folder, live.target_of)


def test_few_labels_make_no_measure(live: LiveApp) -> None:
    prediction_id, predicted = live.answer(1, seed=1)
    live.tell({"prediction_id": prediction_id, "label": predicted[0]})
    live.sink.flush()
    (version,) = live_quality(live.folder, live.target_of).versions
    assert version.measures == {}
    assert version.shortage == "not enough data (1 rows, 30 are needed)"


def test_values_of_a_regression_are_joined(tmp_path: Path) -> None:
    live = LiveApp(tmp_path, "regression")
    prediction_id, predicted = live.answer(40, seed=2)
    labels = [{"prediction_id": f"{prediction_id}#{row}", "label": value + 0.5} for row, value in enumerate(predicted)]
    assert live.tell({"feedback": labels}).json() == {"accepted": 40}
    refused = live.tell({"prediction_id": prediction_id, "label": "high"})
    assert (refused.status_code, refused.json()["field"]) == (422, "feedback[0].label")
    live.client.close()
    live.sink.close()
    (version,) = live_quality(tmp_path, live.target_of).versions
    assert version.measures["mae"].value == pytest.approx(0.5)
    assert json.loads((tmp_path / FILE).read_text().splitlines()[3])["row"] == 3
