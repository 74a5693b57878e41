"""What only Ray Serve can show: the replica, the proxy, versions, and clients that others wrote."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from mlcluster.errors import BundleError, ClusterError
from mlcluster.registry import Bundle
from mlcluster.serve import Endpoint, Predictor, ServePlan, find_record
from tests.registry.bundles import sample_bundle, sample_table
from tests.serve.front_site import free_port

# Ray Serve, MLflow and Triton's client warn about their own use of pydantic, pandas and gevent when they are imported.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("default")]
ROWS = 400


def plan_for(bundle: Bundle, port: int, records: Path | None = None, **changes: object) -> ServePlan:
    settings = {"min_replicas": 1, "max_replicas": 1, "cpus_per_replica": 0.5} | changes
    return ServePlan(
        name="demo",
        bundle_files=bundle.files(),
        port=port,
        records_folder=None if records is None else str(records),
        **settings,
    )


@pytest.fixture(scope="module")
def records_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def endpoint(ray_session: None, records_folder: Path) -> Iterator[Endpoint]:
    from mlcluster.serve.ray_deploy import deploy, undeploy

    plan = plan_for(sample_bundle(), free_port(), records_folder, grpc_port=free_port())
    yield deploy(plan, timeout_seconds=120)
    undeploy("demo")  # Serve itself goes with Ray: to shut it down takes 30 s


@pytest.fixture(scope="module")
def table():
    return sample_table(ROWS, seed=11)


@pytest.fixture(scope="module")
def batch(table):
    return Predictor(sample_bundle()).predict(table)


@pytest.fixture
def triton(endpoint: Endpoint):
    from tritonclient.http import InferenceServerClient

    client = InferenceServerClient(endpoint.url.removeprefix("http://"))
    yield client
    client.close()


def triton_inputs(table, *, binary: bool, num_rows: int = ROWS) -> list:
    """Rows without a missing value in a column of strings: binary strings have no null."""
    from tritonclient.http import InferInput

    inputs = []
    for name, datatype in (
        ("income", "FP64"),
        ("age", "INT64"),
        ("city", "BYTES"),
        ("code", "INT64"),
        ("member", "BOOL"),
    ):
        values = table.column(name).to_pylist()[:num_rows]
        array = {
            "FP64": lambda values=values: np.array([np.nan if v is None else v for v in values]),
            "BYTES": lambda values=values: np.array([v.encode() for v in values], dtype=object),
        }.get(datatype, lambda values=values: np.array(values))()
        tensor = InferInput(name, [len(values), 1], datatype)
        tensor.set_data_from_numpy(array.reshape(-1, 1), binary_data=binary)
        inputs.append(tensor)
    return inputs


def without_missing(table, columns):
    import pyarrow.compute as pc

    for name in columns:
        table = table.filter(pc.is_valid(table.column(name)))
    return table


def test_tritons_client_reads_health_and_metadata(triton, endpoint) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("demo")
    assert triton.is_model_ready("demo", "3")
    assert not triton.is_model_ready("demo", "4")
    assert triton.get_server_metadata()["extensions"] == ["binary_tensor_data", "model_repository"]
    metadata = triton.get_model_metadata("demo", "3")
    assert [spec["datatype"] for spec in metadata["inputs"]] == ["FP64", "INT64", "BYTES", "INT64", "BOOL"]


def test_tritons_client_gets_the_batch_answers_in_binary(triton, table) -> None:
    rows = without_missing(table, ["city"])
    expected = Predictor(sample_bundle()).predict(rows)
    result = triton.infer("demo", triton_inputs(rows, binary=True), request_id="r-1")
    np.testing.assert_allclose(result.as_numpy("probabilities"), expected.scores, atol=1e-6)
    assert [label.decode() for label in result.as_numpy("label")] == expected.labels
    assert result.get_response()["id"] == "r-1"


def test_tritons_client_gets_the_batch_answers_in_json(triton, table) -> None:
    from tritonclient.http import InferRequestedOutput

    rows = without_missing(table, ["city", "income"])
    expected = Predictor(sample_bundle()).predict(rows)
    wanted = [
        InferRequestedOutput("probabilities", binary_data=False),
        InferRequestedOutput("label", binary_data=False),
    ]
    result = triton.infer("demo", triton_inputs(rows, binary=False), model_version="3", outputs=wanted)
    np.testing.assert_allclose(result.as_numpy("probabilities"), expected.scores, atol=1e-6)
    assert result.as_numpy("label").tolist() == expected.labels


def test_tritons_client_sees_what_it_did_wrong(triton, table) -> None:
    from tritonclient.http import InferInput, InferRequestedOutput
    from tritonclient.utils import InferenceServerException

    rows = without_missing(table, ["city"])
    inputs = triton_inputs(rows, binary=True, num_rows=1)
    with pytest.raises(InferenceServerException, match="model other is not served here"):
        triton.infer("other", inputs)
    with pytest.raises(InferenceServerException, match="version 9 of demo is not served"):
        triton.infer("demo", inputs, model_version="9")
    with pytest.raises(InferenceServerException, match="age is missing"):
        triton.infer("demo", [inputs[0], *inputs[2:]])
    with pytest.raises(InferenceServerException, match="did you mean label"):
        triton.infer("demo", inputs, outputs=[InferRequestedOutput("labell")])
    wrong = InferInput("age", [1, 1], "BYTES")
    wrong.set_data_from_numpy(np.array([[b"old"]], dtype=object))
    with pytest.raises(InferenceServerException, match="datatype BYTES; send INT64"):
        triton.infer("demo", [inputs[0], wrong, *inputs[2:]])


def test_grpc_has_the_numbers_of_http_to_the_bit_and_its_records(endpoint, records_folder, table) -> None:
    import grpc

    from tests.serve.test_grpc import MESSAGES, SERVICE, request

    rows = without_missing(table, ["city"]).slice(0, 50)
    columns = rows.to_pydict()
    kinds = ("FP64", "INT64", "BYTES", "INT64", "BOOL")
    inputs = [
        {"name": name, "shape": [50], "datatype": kind, "data": columns[name]}
        for name, kind in zip(columns, kinds, strict=True)
    ]
    expected = httpx.post(endpoint.infer_url, json={"inputs": inputs}).json()["outputs"]
    with grpc.insecure_channel(endpoint.grpc) as channel:
        sent, call = channel.unary_unary(f"/{SERVICE}/ModelInfer").with_call(request(rows).SerializeToString(), 20)
    answer = MESSAGES["ModelInferResponse"].FromString(sent)
    assert list(answer.outputs[1].contents.fp64_contents) == expected[1]["data"]
    prediction_id = dict(call.trailing_metadata())["x-prediction-id"]
    deadline = time.monotonic() + 10
    while find_record(records_folder, prediction_id) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert find_record(records_folder, prediction_id).num_rows == 50


def test_mlflows_client_gets_the_batch_answers(endpoint, table, batch) -> None:
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    host, _, port = endpoint.url.removeprefix("http://").partition(":")
    client = ScoringServerClient(host, int(port))
    client.ping()
    client.wait_server_ready(timeout=10)
    assert client.get_version()
    rows = without_missing(table, ["city", "income"])
    expected = Predictor(sample_bundle()).predict(rows)
    response = client.invoke(rows.to_pandas(), params={"unused": 1})
    assert response["predictions"] == expected.labels
    assert response.get_predictions().shape == (rows.num_rows, 1)
    with pytest.raises(Exception, match="INVALID_PARAMETER_VALUE"):
        client.invoke(rows.to_pandas().drop(columns="age"))


def test_every_row_over_http_is_answered_as_in_batch(endpoint, table, batch) -> None:
    columns = table.to_pydict()
    datatypes = ("FP64", "INT64", "BYTES", "INT64", "BOOL")
    inputs = [
        {"name": name, "shape": [ROWS], "datatype": datatype, "data": columns[name]}
        for name, datatype in zip(columns, datatypes, strict=True)
    ]
    answer = httpx.post(endpoint.infer_url, json={"inputs": inputs}).json()
    np.testing.assert_allclose(np.reshape(answer["outputs"][1]["data"], (ROWS, 2)), batch.scores, atol=1e-6)
    assert answer["outputs"][0]["data"] == batch.labels


def test_a_prediction_is_found_by_its_id(endpoint, records_folder, table) -> None:
    response = httpx.post(f"{endpoint.url}/invocations", json={"instances": table.slice(0, 2).to_pylist()})
    prediction_id = response.headers["x-prediction-id"]
    record = None
    deadline = time.monotonic() + 10
    while record is None and time.monotonic() < deadline:
        record = find_record(records_folder, f"{prediction_id}#1")
        time.sleep(0.1)
    assert record is not None
    assert record.outputs["label"] == response.json()["predictions"]


def test_one_request_id_comes_back(endpoint) -> None:
    response = httpx.get(f"{endpoint.url}/ping", headers={"x-request-id": "mine-1"})
    assert response.headers.get_list("x-request-id") == ["mine-1"]
    assert httpx.get(f"{endpoint.url}/ping").headers["x-request-id"]


def test_a_hundred_megabytes_are_refused_before_they_are_sent_and_the_server_goes_on(endpoint) -> None:
    host, _, port = endpoint.url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.putrequest("POST", "/invocations")
    connection.putheader("content-type", "application/json")
    connection.putheader("content-length", str(100 * 2**20))
    connection.endheaders()
    response = connection.getresponse()
    assert (response.status, response.headers["content-type"]) == (413, "application/problem+json")
    connection.close()
    assert httpx.get(f"{endpoint.url}/v2/health/ready").status_code == 200


def test_a_hundred_megabytes_without_an_announced_length_do_not_stop_the_server(endpoint) -> None:
    chunks = (b" " * 2**20 for _ in range(100))
    headers = {"content-type": "application/json"}
    # A connection that is closed while this client still writes is a refusal too.
    with contextlib.suppress(httpx.WriteError, httpx.RemoteProtocolError):
        assert httpx.post(f"{endpoint.url}/invocations", content=chunks, headers=headers, timeout=60).status_code == 413
    assert httpx.get(f"{endpoint.url}/v2/health/ready").status_code == 200


def test_bad_bodies_are_refused_through_the_proxy(endpoint) -> None:
    headers = {"content-type": "application/json"}
    for text in (b"{", b"[" * 100_000, b'{"inputs": NaN}', b"\xff", b'{"instances": [' + b"9" * 5_000 + b"]}"):
        response = httpx.post(f"{endpoint.url}/invocations", content=text, headers=headers)
        assert response.status_code in (400, 422)
        assert response.headers["content-type"] == "application/problem+json"
    assert "replica=" in httpx.get(f"{endpoint.url}/metrics").text


def test_the_latency_of_one_row_is_printed(endpoint, table, capsys) -> None:
    body = json.dumps({"instances": table.slice(0, 1).to_pylist()})
    headers = {"content-type": "application/json"}
    with httpx.Client() as client:

        def send(_: int) -> float:
            started = time.perf_counter()
            assert client.post(f"{endpoint.url}/invocations", content=body, headers=headers).status_code == 200
            return time.perf_counter() - started

        latencies = [send(index) for index in range(100)]
        started = time.perf_counter()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(send, range(400)))
        rate = 400 / (time.perf_counter() - started)
    with capsys.disabled():
        p50, p99 = np.percentile(latencies, [50, 99]) * 1_000
        text = f"one row: p50 {p50:.1f} ms, p99 {p99:.1f} ms alone; {rate:.0f} requests/s over 8 connections"
        sys.stdout.write(f"\n{text}\n")


def test_a_bundle_that_cannot_be_loaded_leaves_the_endpoint_as_it_is(endpoint) -> None:
    from mlcluster.serve.ray_deploy import deploy

    port = int(endpoint.url.rpartition(":")[2])
    plan = plan_for(sample_bundle(), port)
    damaged = dict(plan.bundle_files) | {"model.onnx": b"x" * len(plan.bundle_files["model.onnx"])}
    with pytest.raises(BundleError, match=r"model\.onnx"):
        deploy(ServePlan(name="demo", bundle_files=damaged, port=port), timeout_seconds=30)
    assert httpx.get(f"{endpoint.url}/v2/models/demo/versions/3/ready").status_code == 200


def test_a_new_version_takes_over_without_a_lost_request(endpoint, records_folder, table) -> None:
    from mlcluster.serve.ray_deploy import deploy

    port = int(endpoint.url.rpartition(":")[2])
    body = {"instances": table.slice(0, 1).to_pylist()}
    statuses: list[int] = []
    is_over = threading.Event()

    def keep_asking() -> None:
        with httpx.Client(timeout=30) as client:
            while not is_over.is_set():
                statuses.append(client.post(f"{endpoint.url}/invocations", json=body).status_code)
                time.sleep(0.05)

    asker = threading.Thread(target=keep_asking)
    asker.start()
    try:
        renewed = deploy(plan_for(sample_bundle(version="4"), port, records_folder), timeout_seconds=120)
    finally:
        is_over.set()
        asker.join()
    assert renewed.version == "4"
    assert httpx.get(f"{endpoint.url}/v2/models/demo").json()["versions"] == ["4"]
    assert set(statuses) == {200}


def test_an_endpoint_scaled_to_zero_answers_its_first_request(endpoint, table) -> None:
    from ray import serve

    from mlcluster.serve.ray_deploy import deploy

    port = int(endpoint.url.rpartition(":")[2])
    plan = plan_for(sample_bundle(version="5"), port, min_replicas=0, downscale_delay_seconds=1.0)
    app = deploy(plan, timeout_seconds=120).app_name

    def num_running() -> int:
        return serve.status().applications[app].deployments["model"].replica_states.get("RUNNING", 0)

    deadline = time.monotonic() + 90
    while num_running() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert num_running() == 0
    response = httpx.post(f"{endpoint.url}/invocations", json={"instances": table.slice(0, 1).to_pylist()}, timeout=60)
    assert response.status_code == 200


def test_what_cannot_be_started_is_told_with_the_reason_and_the_former_version_goes_on(endpoint) -> None:
    from mlcluster.serve.ray_deploy import deploy

    port = int(endpoint.url.rpartition(":")[2])
    deploy(plan_for(sample_bundle(version="6"), port), timeout_seconds=60)
    plan = plan_for(sample_bundle(version="7"), port, cpus_per_replica=64)
    with pytest.raises(ClusterError, match=r"serve = demo is DEPLOYING, not RUNNING .* was served goes on\."):
        deploy(plan, timeout_seconds=10)
    assert httpx.get(f"{endpoint.url}/v2/models/demo/versions/6/ready").status_code == 200


def test_a_port_that_is_taken_is_named(endpoint) -> None:
    from ray import serve

    from mlcluster.serve.ray_deploy import deploy

    before = set(serve.status().applications)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        plan = replace(plan_for(sample_bundle(), port), name="other")
        with pytest.raises(ClusterError, match=rf"serve\.port = {port} on 127\.0\.0\.1 cannot be opened .*in use"):
            deploy(plan)
    assert set(serve.status().applications) == before
