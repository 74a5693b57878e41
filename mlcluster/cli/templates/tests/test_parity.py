"""The same bits in training, batch and serving, for the model that `mlcluster run` has deployed.

pytest tests/test_parity.py      # after `mlcluster run`, and in your own checks before a release
"""

from pathlib import Path

import numpy as np
import pytest
import requests

from mlcluster import Project
from mlcluster.data import DatasetSnapshot, conform
from mlcluster.errors import MlclusterError
from mlcluster.serve.predictor import Predictor

ROWS = 200


@pytest.fixture(scope="module")
def project() -> Project:
    return Project.load(Path(__file__).resolve().parents[1] / "mlcluster.yaml")


@pytest.fixture(scope="module")
def snapshot(project: Project) -> DatasetSnapshot:
    try:
        return project.snapshot()
    except MlclusterError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def predictor(project: Project) -> Predictor:
    try:
        return project.deployed()
    except MlclusterError as error:
        pytest.skip(str(error))


def test_the_deployed_transform_gives_the_matrix_that_was_learned_from(
    snapshot: DatasetSnapshot, predictor: Predictor
) -> None:
    transform = predictor.bundle.transform
    for split in ("train", "test"):
        learned_from = snapshot.matrices(split, transform.encoding)[0][:ROWS]
        raw = conform(snapshot.table(split, max_rows=ROWS).select(predictor.schema.feature_names), predictor.schema)
        assert transform.apply(raw).tobytes() == learned_from.tobytes()


def test_the_endpoint_answers_as_this_process_does(
    project: Project, snapshot: DatasetSnapshot, predictor: Predictor
) -> None:
    endpoint = project.endpoint()
    if endpoint is None or predictor.schema.images:
        pytest.skip("nothing is served, or images, which JSON holds in another form")
    raw = snapshot.table("test", max_rows=ROWS).select(predictor.schema.feature_names)
    model = f"{endpoint['url']}/v2/models/{predictor.name}"
    inputs = [
        {"name": tensor["name"], "datatype": tensor["datatype"], "shape": [raw.num_rows, 1], "data": column}
        for tensor in requests.get(model, timeout=60).json()["inputs"]
        for column in [raw[tensor["name"]].to_pylist()]
    ]
    scores = requests.post(f"{model}/infer", json={"inputs": inputs}, timeout=60).json()["outputs"][-1]
    here = predictor.predict(conform(raw, predictor.schema)).scores
    assert np.reshape(scores["data"], here.shape).tolist() == here.tolist()
