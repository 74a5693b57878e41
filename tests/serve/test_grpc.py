"""The Open Inference Protocol over gRPC: Triton's client for conformance, and the numbers of HTTP to the bit."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcluster.serve import Predictor, RequestLimits
from mlcluster.serve.grpc.messages import MESSAGES, SERVICE
from tests.registry.bundles import sample_bundle, sample_table
from tests.serve.grpc_site import GrpcSite, grpc_site
from tests.serve.test_http_app import INFER
from tests.serve.test_tracing import TRACE, VALID

KINDS = {"income": "FP64", "age": "INT64", "city": "BYTES", "code": "INT64", "member": "BOOL"}
CONTENTS = {"FP64": "fp64_contents", "INT64": "int64_contents", "BYTES": "bytes_contents", "BOOL": "bool_contents"}


@pytest.fixture(scope="module")
def site() -> Iterator[GrpcSite]:
    with grpc_site() as found:
        yield found


@pytest.fixture(autouse=True)
def _forget(site: GrpcSite) -> None:
    site.records.records.clear()


@pytest.fixture
def triton(site: GrpcSite) -> Iterator[Any]:
    from tritonclient.grpc import InferenceServerClient

    client = InferenceServerClient(str(site.address))
    yield client
    client.close()


def complete(num_rows: int, seed: int = 11) -> pa.Table:
    """Rows without a missing value in the column of strings: bytes have no null."""
    table = sample_table(num_rows, seed=seed)
    return table.filter(pc.is_valid(table["city"]))


def triton_inputs(table: pa.Table) -> list[Any]:
    from tritonclient.grpc import InferInput

    inputs = []
    for name, kind in KINDS.items():
        values = table[name].to_pylist()
        if kind == "BYTES":
            array = np.array([value.encode() for value in values], dtype=object)
        elif kind == "FP64":
            array = np.array([np.nan if value is None else value for value in values])
        else:
            array = np.array(values)
        tensor = InferInput(name, [len(values), 1], kind)
        tensor.set_data_from_numpy(array.reshape(-1, 1))
        inputs.append(tensor)
    return inputs


def request(table: pa.Table, **members: Any) -> Any:
    """ModelInferRequest with typed contents."""
    message = MESSAGES["ModelInferRequest"](**({"model_name": "demo"} | members))
    for name, kind in KINDS.items():
        values = [np.nan if value is None else value for value in table[name].to_pylist()]
        values = [value.encode() for value in values] if kind == "BYTES" else values
        tensor = message.inputs.add(name=name, datatype=kind, shape=[len(values)])
        getattr(tensor.contents, CONTENTS[kind]).extend(values)
    return message


def call(site: GrpcSite, method: str, body: bytes | Any, **options: Any) -> tuple[Any, dict[str, str]]:
    """The response, and its metadata."""
    with grpc.insecure_channel(str(site.address)) as channel:
        answer, done = channel.unary_unary(f"/{SERVICE}/{method}").with_call(
            body if isinstance(body, bytes) else body.SerializeToString(), timeout=options.pop("timeout", 20), **options
        )
    return MESSAGES[f"{method}Response"].FromString(answer), dict(done.trailing_metadata())


def refused(site: GrpcSite, method: str, body: bytes | Any, **options: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call(site, method, body, **options)
    return caught.value


def over_http(site: GrpcSite, table: pa.Table) -> dict[str, list[Any]]:
    inputs = [
        {"name": name, "shape": [table.num_rows], "datatype": kind, "data": table[name].to_pylist()}
        for name, kind in KINDS.items()
    ]
    answer = site.http.post(INFER, json={"inputs": inputs})
    return {output["name"]: output["data"] for output in answer.json()["outputs"]}


def test_tritons_client_reads_health_and_metadata(triton: Any) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("demo")
    assert triton.is_model_ready("demo", "3")
    assert not triton.is_model_ready("demo", "4")
    assert not triton.is_model_ready("other")
    assert triton.get_server_metadata().name == "mlcluster"
    metadata = triton.get_model_metadata("demo", "3", as_json=True)
    assert {spec["name"]: spec["datatype"] for spec in metadata["inputs"]} == KINDS
    assert [spec["shape"] for spec in metadata["outputs"]] == [["-1"], ["-1", "2"]]
    assert metadata["versions"] == ["3"]


def test_tritons_client_gets_the_numbers_of_http_to_the_bit(site: GrpcSite, triton: Any) -> None:
    from tritonclient.grpc import InferRequestedOutput

    rows = complete(400)
    expected = over_http(site, rows)
    result = triton.infer("demo", triton_inputs(rows), request_id="r-1")
    assert result.as_numpy("probabilities").ravel().tolist() == expected["probabilities"]
    assert [label.decode() for label in result.as_numpy("label")] == expected["label"]
    assert result.get_response().id == "r-1"
    assert result.get_response().parameters["prediction_id"].string_param == site.records.records[-1].id
    wanted = [InferRequestedOutput("probabilities")]
    only = triton.infer("demo", triton_inputs(rows), model_version="3", outputs=wanted)
    assert [output.name for output in only.get_response().outputs] == ["probabilities"]
    assert only.as_numpy("probabilities").shape == (rows.num_rows, 2)


def test_tritons_client_sees_what_it_did_wrong(triton: Any) -> None:
    from tritonclient.grpc import InferInput, InferRequestedOutput
    from tritonclient.utils import InferenceServerException

    inputs = triton_inputs(complete(10).slice(0, 1))
    with pytest.raises(InferenceServerException, match=r"NOT_FOUND.*model other is not served here"):
        triton.infer("other", inputs)
    with pytest.raises(InferenceServerException, match=r"NOT_FOUND.*version 9 of demo is not served"):
        triton.infer("demo", inputs, model_version="9")
    with pytest.raises(InferenceServerException, match=r"NOT_FOUND.*version 9 of demo"):
        triton.get_model_metadata("demo", "9")
    with pytest.raises(InferenceServerException, match=r"INVALID_ARGUMENT.*age is missing"):
        triton.infer("demo", [inputs[0], *inputs[2:]])
    with pytest.raises(InferenceServerException, match=r"INVALID_ARGUMENT.*did you mean label"):
        triton.infer("demo", inputs, outputs=[InferRequestedOutput("labell")])
    wrong = InferInput("age", [1, 1], "BYTES")
    wrong.set_data_from_numpy(np.array([[b"old"]], dtype=object))
    with pytest.raises(InferenceServerException, match=r"INVALID_ARGUMENT.*age has datatype BYTES; send INT64"):
        triton.infer("demo", [inputs[0], wrong, *inputs[2:]])
    with pytest.raises(InferenceServerException, match="shared_memory_region"):
        inputs[0].set_shared_memory("region", 8)
        triton.infer("demo", inputs)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("num_rows", [1, 300])
def test_typed_contents_have_the_numbers_of_http_to_the_bit(task: Any, num_rows: int) -> None:
    rows = complete(num_rows + 10).slice(0, num_rows)
    with grpc_site(sample_bundle(task)) as site:
        expected = over_http(site, rows)
        recorded = site.records.records[-1]
        answer, metadata = call(site, "ModelInfer", request(rows, id="mine"))
        record = site.records.records[-1]
    found = {output.name: _values(output) for output in answer.outputs}
    assert found == expected
    assert (answer.id, answer.model_name, answer.model_version) == ("mine", "demo", "3")
    assert metadata["x-prediction-id"] == answer.parameters["prediction_id"].string_param == record.id
    assert (record.inputs, record.outputs, record.num_rows) == (recorded.inputs, recorded.outputs, rows.num_rows)


def _values(output: Any) -> list[Any]:
    ((field, values),) = output.contents.ListFields()
    assert field.name == CONTENTS[output.datatype]
    return [value.decode() for value in values] if output.datatype == "BYTES" else list(values)


def test_requests_are_named_and_counted_as_over_http(site: GrpcSite) -> None:
    sent = (("x-request-id", "mine"), ("traceparent", VALID))
    _, metadata = call(site, "ModelInfer", request(complete(9)), metadata=sent)
    assert metadata["x-request-id"] == "mine"
    assert metadata["traceparent"][:36] == VALID[:36]
    assert (site.records.records[-1].request_id, site.records.records[-1].trace_id) == ("mine", TRACE)
    error = refused(site, "ModelInfer", request(complete(9), model_name="other"), metadata=sent)
    trailing = dict(error.trailing_metadata())
    assert (trailing["x-request-id"], trailing["traceparent"][:36]) == ("mine", VALID[:36])
    wrong = (("traceparent", VALID.upper()),)
    assert call(site, "ModelInfer", request(complete(9)), metadata=wrong)[1]["traceparent"][3:35] != TRACE
    text = site.http.get("/metrics").text
    label = 'route="/inference.GRPCInferenceService/ModelInfer",status='
    assert f'{label}"200"' in text
    assert f'{label}"404"' in text


def test_a_call_that_has_no_time_left_is_not_worked_on(site: GrpcSite) -> None:
    late = (("x-mlcluster-received-ms", str(int((time.time() - 5) * 1_000))),)
    for options in (
        {"metadata": (*late, ("x-request-timeout-ms", "1000"))},
        {"metadata": late, "timeout": 3},
    ):
        error = refused(site, "ModelInfer", request(complete(9)), **options)
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "before the model was asked" in error.details()
    message = request(complete(9))
    message.parameters["timeout"].int64_param = 1_000_000
    assert refused(site, "ModelInfer", message, metadata=late).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert site.records.records == []
    message.parameters["timeout"].int64_param = 9_000_000
    call(site, "ModelInfer", message, metadata=late)
    message.parameters["timeout"].string_param = "soon"
    error = refused(site, "ModelInfer", message)
    assert (error.code(), "timeout is no whole number" in error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def changed(**changes: Any) -> Any:
    """A request whose tensor `age` has other members."""
    message = request(complete(9).slice(0, 1))
    tensor = message.inputs[1]
    for name, value in changes.items():
        if name in ("shape",):
            del tensor.shape[:]
            tensor.shape.extend(value)
        elif name.endswith("_contents"):
            getattr(tensor.contents, name).extend(value)
        else:
            setattr(tensor, name, value)
    return message


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        (changed(name="agee"), "did you mean age?"),
        (changed(name="income"), "income stands twice"),
        (changed(shape=[2]), "1 values of data for shape [2]"),
        (changed(shape=[1, 2]), "shape [1, 2]"),
        (changed(shape=[-1]), "no shape of whole numbers"),
        (changed(shape=[]), "has shape []"),
        (changed(datatype="FP64"), "has datatype FP64 and int64_contents; send fp64_contents"),
        (changed(datatype="FP16"), "send raw_input_contents"),
        (changed(datatype="INT65"), "INT65"),
        (changed(bool_contents=[True]), "bool_contents; send int64_contents"),
        (changed(int64_contents=[1]), "2 values of data"),
    ],
)
def test_a_request_that_breaks_the_protocol_is_refused_by_name(site: GrpcSite, message: Any, detail: str) -> None:
    error = refused(site, "ModelInfer", message)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert detail in error.details()


def test_raw_and_typed_contents_do_not_mix(site: GrpcSite) -> None:
    message = changed()
    message.raw_input_contents.append(b"x")
    assert "raw_input_contents has 1 parts for 5 inputs" in refused(site, "ModelInfer", message).details()
    message.raw_input_contents.extend([b"x"] * 4)
    assert "both contents and raw_input_contents" in refused(site, "ModelInfer", message).details()
    for body in (b"\xff", b"\x0a\xff"):
        for method in ("ModelInfer", "ModelReady", "ModelMetadata", "ServerLive"):
            error = refused(site, method, body)
            assert (error.code(), "The message is no" in error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    assert refused(site, "ModelExplain", b"").code() is grpc.StatusCode.UNIMPLEMENTED


def test_limits_are_those_of_http() -> None:
    with grpc_site(limits=RequestLimits(max_rows=20, max_body_bytes=2**16)) as site:
        error = refused(site, "ModelInfer", request(complete(40)))
        assert (error.code(), "at most 20" in error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, True)
        error = refused(site, "ModelInfer", request(complete(20_000)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        call(site, "ModelInfer", request(complete(12)))


def test_one_call_too_many_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    original = Predictor.predict_matrix

    def held(self: Predictor, matrix: Any) -> Any:
        assert free.wait(20)
        return original(self, matrix)

    monkeypatch.setattr(Predictor, "predict_matrix", held)
    body = request(complete(6_000)).SerializeToString()  # one that is answered beside the event loop
    assert len(body) > 2**16
    with grpc_site(limits=RequestLimits(max_in_flight=1)) as site, grpc.insecure_channel(str(site.address)) as channel:
        infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        first = infer.future(body, timeout=20)
        deadline = time.monotonic() + 10
        while 'in_flight{model="demo",replica="",version="3"} 1.0' not in site.http.get("/metrics").text:
            assert time.monotonic() < deadline
        error = refused(site, "ModelInfer", body)
        assert (error.code(), "try again in a second" in error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
        assert call(site, "ServerLive", b"")[0].live
        free.set()
        assert MESSAGES["ModelInferResponse"].FromString(first.result()).model_name == "demo"


def test_a_fault_of_the_model_is_internal_and_the_server_goes_on(
    site: GrpcSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "_scores", lambda self, features: np.full((len(features), 2), np.nan))
        error = refused(site, "ModelInfer", request(complete(9)))
        assert (error.code(), "fault of the server" in error.details()) == (grpc.StatusCode.INTERNAL, True)
    call(site, "ModelInfer", request(complete(9)))


BODY = request(complete(9).slice(0, 2)).SerializeToString()


@given(data=st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_change_to_the_bytes_of_a_request_is_answered_or_refused(site: GrpcSite, data: st.DataObject) -> None:
    body = bytearray(BODY)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
        body = body or bytearray(b"\0")
    try:
        call(site, "ModelInfer", bytes(body))
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), error
