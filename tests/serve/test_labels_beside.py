"""Labels for every model at one address: each is held against the target of the version that its id names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlcluster.data import TargetColumn
from mlcluster.monitor import live_quality
from mlcluster.serve import PredictionLog, Predictor, new_prediction_id
from mlcluster.serve.app_context import AppContext
from mlcluster.serve.feedback import FILE, FeedbackLog, read_feedback
from mlcluster.serve.http_app import app_within
from mlcluster.serve.many_models import no_others
from mlcluster.serve.records.answered import RecordSink
from tests.registry.bundles import sample_table
from tests.serve.app_client import AppClient
from tests.serve.test_many_models import BIKES, BIKES_NEXT, FORMER, OWN, Site

UNSERVED = "1"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(feedback=FeedbackLog(tmp_path))
    yield site
    site.client.close()


def tell(site: Site, *labels: tuple[str, Any]) -> Any:
    items = [{"prediction_id": prediction_id, "label": label} for prediction_id, label in labels]
    return site.client.post("/feedback", json={"feedback": items})


@pytest.mark.parametrize(
    ("path", "label"), [("demo", "yes"), ("demo@challenger", 2), ("bikes", 3.5), ("bikes/versions/8", 3)]
)
def test_the_answer_of_each_model_takes_a_label_of_its_own(site: Site, tmp_path: Path, path: str, label: Any) -> None:
    prediction_id = site.infer(path).headers["x-prediction-id"]
    told = tell(site, (f"{prediction_id}#0", label))
    assert (told.status_code, told.json()) == (200, {"accepted": 1}), told.text
    assert {key: item.label for key, item in read_feedback(tmp_path).items()} == {(prediction_id, 0): label}


@pytest.mark.parametrize(
    ("name", "version", "label", "complaint"),
    [
        ("demo", "2", "yes", "feedback[1]: label = 'yes' is no class of "),
        ("bikes", "7", "a", "feedback[1]: label = 'a' is no finite number; "),
        ("bikes", "8", 3.5, "feedback[1]: label = 3.5 is no class of "),
        ("demo", "3", 2, "feedback[1]: label = 2 is no class of "),
        ("trees", "1", "yes", "feedback[1]: prediction id = trees.1."),
    ],
)
def test_a_label_that_its_model_cannot_have_is_refused_and_none_is_written(
    site: Site, tmp_path: Path, name: str, version: str, label: Any, complaint: str
) -> None:
    told = tell(site, (new_prediction_id("demo", "3"), "yes"), (new_prediction_id(name, version), label))
    assert told.status_code == 422
    assert told.json()["detail"].startswith(complaint), told.text
    assert not (tmp_path / FILE).exists()


def test_an_unknown_model_is_told_which_are_known(site: Site) -> None:
    told = tell(site, (new_prediction_id("trees", "1"), "yes"))
    assert "is of trees; labels are taken for demo, bikes." in told.json()["detail"]
    assert told.json()["field"] == "feedback[0].prediction_id"


def test_labels_of_a_version_that_is_served_no_more_are_held_against_what_its_name_means_now(site: Site) -> None:
    assert tell(site, (new_prediction_id("bikes", UNSERVED), 1.0)).status_code == 200
    assert tell(site, (new_prediction_id("bikes", UNSERVED), "yes")).status_code == 422
    assert tell(site, (new_prediction_id("demo", UNSERVED), "yes")).status_code == 200


def test_a_label_loads_no_model(site: Site) -> None:
    assert tell(site, (new_prediction_id("bikes", "7"), 2.0), (new_prediction_id("demo", "2"), 1)).status_code == 200
    assert site.fetched == []


def test_the_document_has_a_label_of_each_target(site: Site) -> None:
    operation = site.client.get("/openapi.json").json()["paths"]["/feedback"]["post"]
    item, _ = operation["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    targets = [bundle.schema.target for bundle in (OWN, FORMER, BIKES)]
    expected = [{"enum": list(target.classes)} if target.classes else {"type": "number"} for target in targets]
    assert item["properties"]["label"]["anyOf"] == expected


def test_live_quality_keeps_models_apart_that_have_one_version_number(tmp_path: Path) -> None:
    targets = {("demo", "3"): OWN.schema.target, ("bikes", "7"): BIKES.schema.target}
    log = PredictionLog(tmp_path)
    for bundle, label in ((OWN, "yes"), (BIKES, 4.0), (BIKES_NEXT, 1)):
        client = AppClient(alone(Predictor(bundle), log, tmp_path))
        answer = client.post("/invocations", json={"dataframe_records": sample_table(40, seed=1).to_pylist()})
        prediction_id = answer.headers["x-prediction-id"]
        labels = [{"prediction_id": f"{prediction_id}#{row}", "label": label} for row in range(40)]
        assert client.post("/feedback", json={"feedback": labels}).status_code == 200
        client.close()
    log.close()

    def target_of(model: str, version: str) -> TargetColumn | None:
        return targets.get((model, version))

    own, bikes, unknown = live_quality(tmp_path, target_of).versions
    assert (own.model, own.version, own.num_labelled, "accuracy" in own.measures) == ("demo", "3", 40, True)
    assert (bikes.model, bikes.version, bikes.num_labelled, "mae" in bikes.measures) == ("bikes", "7", 40, True)
    assert (unknown.model, unknown.version, unknown.measures) == ("bikes", "8", {})
    assert unknown.shortage == "what it predicts is not known: that version is not registered, or cannot be read"


def test_labels_and_answers_that_the_target_cannot_have_are_left_out(tmp_path: Path) -> None:
    """As after a change of the project's target: the same version, taken for what it is not."""
    log = PredictionLog(tmp_path)
    client = AppClient(alone(Predictor(OWN), log, tmp_path))
    answer = client.post("/invocations", json={"dataframe_records": sample_table(2, seed=1).to_pylist()})
    client.post("/feedback", json={"prediction_id": answer.headers["x-prediction-id"], "label": "yes"})
    client.close()
    log.close()
    for bundle in (FORMER, BIKES):
        (version,) = live_quality(tmp_path, lambda model, version, of=bundle: of.schema.target).versions
        assert (version.num_labelled, version.shortage) == (1, "not enough data (0 rows, 30 are needed)")


def alone(predictor: Predictor, records: RecordSink, folder: Path) -> Any:
    context = AppContext(records, feedback=FeedbackLog(folder))
    return app_within(context, predictor, no_others(predictor.name, predictor.version))
