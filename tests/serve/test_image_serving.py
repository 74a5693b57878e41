"""An image over HTTP, in each way that it may come, is answered as in training."""

from __future__ import annotations

import base64
import csv
import io
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlcluster.errors import DataError
from mlcluster.registry import Bundle
from mlcluster.serve import Predictor
from mlcluster.serve.mlflow_loader import BundleModel
from tests.data.image_tables import png_that_claims
from tests.serve.app_client import AppClient
from tests.serve.conftest import MemoryRecords
from tests.serve.image_models import ServedImages, trained_on_bars

HEADER = "inference-header-content-length"
INFER = "/v2/models/demo/infer"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> ServedImages:
    return trained_on_bars(tmp_path_factory.mktemp("images"))


@pytest.fixture
def client(served: ServedImages, start: Callable[..., AppClient]) -> AppClient:
    return start(Bundle.from_files(served.bundle.files()))


def tensor(values: list[Any]) -> dict[str, Any]:
    return {"inputs": [{"name": "picture", "datatype": "BYTES", "shape": [len(values)], "data": values}]}


def probabilities(document: dict[str, Any]) -> np.ndarray:
    (found,) = (output for output in document["outputs"] if output["name"] == "probabilities")
    return np.array(found["data"]).reshape(-1, 2)


def test_base64_in_json_and_raw_bytes_are_answered_as_in_training(client: AppClient, served: ServedImages) -> None:
    as_text = client.post(INFER, json=tensor(served.texts))
    assert as_text.status_code == 200, as_text.text
    assert np.abs(probabilities(as_text.json()) - served.scores).max() < 1e-6
    block = b"".join(struct.pack("<I", len(image)) + image for image in served.images)
    sent = {"name": "picture", "datatype": "BYTES", "shape": [3, 1], "parameters": {"binary_data_size": len(block)}}
    head = json.dumps({"inputs": [sent]}).encode()
    as_bytes = client.post(INFER, content=head + block, headers={HEADER: str(len(head))})
    assert as_bytes.json()["outputs"] == as_text.json()["outputs"]


def test_each_form_of_mlflow_gives_the_same_labels(client: AppClient, served: ServedImages) -> None:
    labels = [served.bundle.schema.target.classes[place] for place in served.scores.argmax(axis=1)]
    forms: list[dict[str, Any]] = [
        {"dataframe_records": [{"picture": text} for text in served.texts]},
        {"dataframe_split": {"columns": ["picture"], "data": [[text] for text in served.texts]}},
        {"instances": [{"picture": text} for text in served.texts]},
        {"inputs": {"picture": served.texts}},
    ]
    answers = [client.post("/invocations", json=form) for form in forms]
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["picture"], *([text] for text in served.texts)])
    answers.append(client.post("/invocations", content=buffer.getvalue(), headers={"content-type": "text/csv"}))
    assert [answer.json()["predictions"] for answer in answers] == [labels] * 5
    model = BundleModel(Predictor(served.bundle))
    for values in (served.texts, served.images):
        assert model.predict(pd.DataFrame({"picture": values})) == labels


def test_a_row_alone_is_answered_as_in_a_batch(client: AppClient, served: ServedImages) -> None:
    together = probabilities(client.post(INFER, json=tensor(served.texts)).json())
    alone = [probabilities(client.post(INFER, json=tensor([text])).json())[0] for text in served.texts]
    assert np.abs(np.array(alone) - together).max() < 1e-12


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        ("not base64", "picture = 'not base64' in row 0 is no binary; send a PNG or a JPEG, in JSON as base64"),
        (12, "picture = 12 in row 0 is no binary"),
        (base64.b64encode(b"GIF89a").decode(), "picture in row 0 is no PNG or JPEG"),
        (base64.b64encode(png_that_claims(50_000, 50_000)).decode(), "has more pixels than data.image.max_pixels"),
        (base64.b64encode(png_that_claims(12, 12)).decode(), "picture in row 0 cannot be decoded"),
    ],
)
def test_what_is_no_image_is_a_422_that_names_the_column(client: AppClient, value: Any, detail: str) -> None:
    answer = client.post(INFER, json=tensor([value]))
    assert answer.status_code == 422
    assert detail in answer.json()["detail"]
    assert answer.json()["field"] == "picture"


def test_records_keep_the_hash_of_an_image_and_not_the_image(
    client: AppClient, served: ServedImages, records: MemoryRecords
) -> None:
    client.post(INFER, json=tensor(served.texts))
    client.post("/invocations", json={"inputs": {"picture": served.texts}})
    kept = [record.inputs for record in records.records]
    assert kept[0] == kept[1]
    assert kept[0] is not None
    assert [value[:7] for value in kept[0]["picture"]] == ["sha256:"] * 3
    assert len(set(kept[0]["picture"])) == 3


def test_metadata_documents_and_their_examples_hold(client: AppClient) -> None:
    (spec,) = client.get("/v2/models/demo").json()["inputs"]
    assert (spec["datatype"], spec["shape"]) == ("BYTES", [-1, 1])
    document = client.get("/openapi.json").json()
    assert document["components"]["schemas"]["Row"]["properties"]["picture"]["contentEncoding"] == "base64"
    for path in ("/invocations", INFER):
        example = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
        assert client.post(path, json=example).status_code == 200


def test_a_bundle_with_images_is_read_back_equal(served: ServedImages, tmp_path: Path) -> None:
    served.bundle.write(tmp_path / "bundle")
    assert Bundle.read(tmp_path / "bundle") == served.bundle


def test_without_opencv_no_server_starts(served: ServedImages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(DataError, match=r"install it: pip install 'mlcluster\[images\]'"):
        Predictor(served.bundle)


def test_many_rows_are_answered_a_few_at_a_time(served: ServedImages) -> None:
    """A whole batch of patches would be gigabytes."""
    import pyarrow as pa

    many = pa.table({"picture": pa.array(served.images * 800, pa.binary())})
    scores = Predictor(served.bundle).predict(many).scores
    assert np.abs(scores.reshape(800, 3, 2) - served.scores).max() < 1e-6
