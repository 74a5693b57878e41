from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from mlcluster.serve import Predictor
from mlcluster.serve.tensors import TensorSpec, decode_binary, encode_binary
from tests.registry.bundles import sample_bundle, sample_table
from tests.serve.test_http_app import INFER, assert_problem

HEADER = "inference-header-content-length"


def tensor(name: str, datatype: str, data: object, shape: list | None = None, **members: object) -> dict:
    return {"name": name, "shape": shape or [1, 1], "datatype": datatype, "data": data} | members


def request(**changes: dict | None) -> dict:
    inputs = {
        "income": tensor("income", "FP64", [50.5]),
        "age": tensor("age", "INT64", [41]),
        "city": tensor("city", "BYTES", ["Oslo"]),
        "code": tensor("code", "INT64", [2]),
        "member": tensor("member", "BOOL", [True]),
    } | changes
    return {"inputs": [value for value in inputs.values() if value is not None]}


def binary_request(**outputs: object) -> tuple[bytes, dict[str, str]]:
    """Three rows, every column in binary; income of row 1 is missing."""
    blocks = {
        "income": ("FP64", np.array([50.5, np.nan, 3.0])),
        "age": ("INT32", np.array([41, 42, 43], dtype=np.int32)),
        "city": ("BYTES", b"".join(struct.pack("<I", len(t)) + t for t in (b"Oslo", b"", "Ħal Qormi".encode()))),
        "code": ("INT64", np.array([0, 1, 2])),
        "member": ("BOOL", np.array([True, False, True])),
    }
    data = {name: block if isinstance(block, bytes) else block.tobytes() for name, (_, block) in blocks.items()}
    document = {
        "inputs": [
            {"name": n, "datatype": d, "shape": [3, 1], "parameters": {"binary_data_size": len(data[n])}}
            for n, (d, _) in blocks.items()
        ]
    } | outputs
    text = json.dumps(document).encode()
    return text + b"".join(data.values()), {HEADER: str(len(text))}


def test_the_metadata_names_each_column_with_its_true_datatype(client) -> None:
    metadata = client.get("/v2/models/demo").json()
    assert {spec["name"]: spec["datatype"] for spec in metadata["inputs"]} == {
        "income": "FP64",
        "age": "INT64",
        "city": "BYTES",
        "code": "INT64",
        "member": "BOOL",
    }
    assert all(spec["shape"] == [-1, 1] for spec in metadata["inputs"])
    assert metadata["outputs"] == [
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP64", "shape": [-1, 2]},
    ]
    assert metadata["versions"] == ["3"]
    assert json.loads(metadata["properties"]["classes"]) == ["no", "yes"]


@pytest.mark.parametrize(
    ("task", "expected"), [("multiclass", ["INT64", "FP64"]), ("regression", ["FP64"]), ("binary", ["BYTES", "FP64"])]
)
def test_the_outputs_have_the_type_of_the_classes(start, task, expected) -> None:
    outputs = start(sample_bundle(task)).get("/v2/models/demo").json()["outputs"]
    assert [output["datatype"] for output in outputs] == expected


def test_the_id_is_echoed_and_the_prediction_id_stands_in_the_parameters(client) -> None:
    body = json.dumps(request() | {"id": "a-1 \ud800"})
    response = client.post("/v2/models/demo/versions/3/infer", content=body)
    answer = response.json()
    assert answer["id"] == "a-1 \ud800"
    assert (answer["model_name"], answer["model_version"]) == ("demo", "3")
    assert answer["parameters"]["prediction_id"] == response.headers["x-prediction-id"]
    assert "id" not in client.post(INFER, json=request()).json()


@pytest.mark.parametrize("shape", [[2], [2, 1]])
@pytest.mark.parametrize("nested", [False, True])
def test_data_may_be_flat_or_nested_and_null_is_missing(client, shape, nested) -> None:
    values = {
        "income": ("FP64", [None, 1.0]),
        "age": ("INT64", [1, None]),
        "city": ("BYTES", [None, "Rome"]),
        "code": ("INT64", [None, 1]),
        "member": ("BOOL", [None, True]),
    }
    inputs = [
        tensor(name, datatype, [[value] for value in data] if nested else data, shape)
        for name, (datatype, data) in values.items()
    ]
    response = client.post(INFER, json={"inputs": inputs})
    assert response.status_code == 200, response.text
    assert response.json()["outputs"][1]["shape"] == [2, 2]


def test_only_the_requested_outputs_come_in_the_order_of_the_request(client) -> None:
    names = [{"name": "probabilities"}, {"name": "label", "parameters": {"binary_data": False}}]
    for wanted in (names, names[:1], names[1:]):
        answer = client.post(INFER, json=request() | {"outputs": wanted}).json()
        assert [output["name"] for output in answer["outputs"]] == [output["name"] for output in wanted]
    assert len(client.post(INFER, json=request() | {"outputs": []}).json()["outputs"]) == 2


def test_binary_tensors_give_the_answers_of_json(client) -> None:
    body, headers = binary_request()
    answer = client.post(INFER, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    rows = [
        {"income": 50.5, "age": 41, "city": "Oslo", "code": 0, "member": True},
        {"income": None, "age": 42, "city": "", "code": 1, "member": False},
        {"income": 3.0, "age": 43, "city": "Ħal Qormi", "code": 2, "member": True},
    ]
    assert (
        answer.json()["outputs"][0]["data"]
        == client.post("/invocations", json={"instances": rows}).json()["predictions"]
    )


@pytest.mark.parametrize(
    "choice",
    [
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": n, "parameters": {"binary_data": True}} for n in ("label", "probabilities")]},
    ],
)
def test_outputs_come_in_binary_when_they_are_asked_for(client, choice) -> None:
    plain = client.post(INFER, content=binary_request()[0], headers=binary_request()[1]).json()
    body, headers = binary_request(**choice)
    answer = client.post(INFER, content=body, headers=headers)
    length = int(answer.headers[HEADER])
    document, rest = json.loads(answer.content[:length]), memoryview(answer.content)[length:]
    decoded = []
    for output in document["outputs"]:
        size = output["parameters"]["binary_data_size"]
        decoded.append(decode_binary(output["name"], output["datatype"], rest[:size], int(np.prod(output["shape"]))))
        rest = rest[size:]
    assert decoded == [output["data"] for output in plain["outputs"]]
    assert len(rest) == 0
    assert answer.headers["content-type"] == "application/octet-stream"


def test_one_output_may_be_binary_and_the_other_json(client) -> None:
    wanted = [{"name": "label"}, {"name": "probabilities", "parameters": {"binary_data": True}}]
    answer = client.post(INFER, json=request() | {"outputs": wanted})
    document = json.loads(answer.content[: int(answer.headers[HEADER])])
    assert "data" in document["outputs"][0]
    assert document["outputs"][1]["parameters"] == {"binary_data_size": 16}


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (request(age=None), 422, "age is missing"),
        (request(extra=tensor("agee", "INT64", [1])), 422, "did you mean age?"),
        (request(extra=tensor("age", "INT64", [1])), 422, "stands twice"),
        (request(age=tensor("age", "BYTES", ["x"])), 422, "datatype BYTES; send INT64"),
        (request(age=tensor("age", "INT65", [1])), 422, "datatype INT65"),
        (request(age=tensor("age", None, [1])), 422, "datatype null"),
        (request(age=tensor("age", "INT64", ["x"])), 422, "no int64"),
        (request(age=tensor("age", "INT64", [2**70])), 422, "no int64"),
        (request(age=tensor("age", "INT64", [1.5])), 422, "no int64"),
        (request(age=tensor("age", "INT64", [1, 2])), 422, "2 values of data"),
        (request(age=tensor("age", "INT64", [1], [1, 2])), 422, "shape [1, 2]"),
        (request(age=tensor("age", "INT64", [1], [-1])), 422, "no shape of whole numbers"),
        (request(age=tensor("age", "INT64", [1], [True])), 422, "no shape of whole numbers"),
        (request(age=tensor("age", "INT64", [1], "one")), 422, "no shape"),
        (request(age=tensor("age", "INT64", [1], [10**12])), 422, "no shape"),
        (request(age=tensor("age", "INT64", [1], [1, 1, 1])), 422, "shape [1, 1, 1]"),
        (request(age=tensor("age", "INT64", [1, [2]])), 422, "ragged"),
        (request(age=tensor("age", "INT64", [[[1]]])), 422, "ragged"),
        (request(age=tensor("age", "INT64", 1)), 422, "data that is a number"),
        (request(age=tensor("age", "INT64", [1], [1], dta=1)), 422, "did you mean data?"),
        (request(age={"name": "age", "shape": [1], "datatype": "INT64"}), 422, "has no data"),
        (request(age={"shape": [1]}), 422, "without a name"),
        (request() | {"inputs": "all"}, 422, "inputs is a string"),
        ({}, 422, "inputs is null"),
        (request() | {"output": []}, 422, "did you mean outputs?"),
        (request() | {"outputs": [{"name": "labels"}]}, 422, "did you mean label?"),
        (request() | {"outputs": [{"name": "label"}] * 2}, 422, "stands twice"),
        (request() | {"outputs": [3]}, 422, "without a name"),
        (request() | {"outputs": {"name": "label"}}, 422, "outputs is an object"),
        (request() | {"outputs": [{"name": "label", "parameters": {"classification": 2}}]}, 422, "classification"),
        (request() | {"id": 3}, 422, "id is no string"),
        (request() | {"parameters": 3}, 422, "parameters that are a number"),
        (request(age=tensor("age", "INT64", [1], parameters={"shared_memory_region": "r"})), 422, "shared_memory"),
        (request(age=tensor("age", "INT64", [1], parameters={"binary_data_size": 8})), 422, "binary_data_size"),
    ],
)  # fmt: skip
def test_a_request_that_breaks_the_protocol_is_refused_by_name(client, body, status, detail) -> None:
    problem = assert_problem(client.post(INFER, json=body), status)
    assert detail in problem["error"]


@pytest.mark.parametrize("length", ["", "-1", "x", "99999999", "9" * 30, "٣"])
def test_a_length_that_is_none_is_refused(client, length) -> None:
    body, _ = binary_request()
    assert_problem(client.post(INFER, content=body, headers=[(HEADER.encode(), length.encode())]), 400)


def test_bytes_that_belong_to_no_tensor_are_refused(client) -> None:
    body, headers = binary_request()
    assert (
        "belong to no input" in assert_problem(client.post(INFER, content=body + b"x", headers=headers), 400)["detail"]
    )
    assert_problem(client.post(INFER, content=body[:-1], headers=headers), 422)


@pytest.mark.parametrize(
    ("datatype", "data", "count", "detail"),
    [
        ("INT64", b"\0" * 7, 1, "take 8"),
        ("FP32", b"\0" * 8, 1, "take 4"),
        ("BOOL", b"\2", 1, "0 and 1"),
        ("BYTES", b"\1\0", 1, "inside a length"),
        ("BYTES", b"\5\0\0\0abc", 1, "ends inside string 0"),
        ("BYTES", b"\xff\xff\xff\xffabc", 1, "ends inside string 0"),
        ("BYTES", b"\1\0\0\0\xff", 1, "not UTF-8"),
        ("BYTES", b"\1\0\0\0a", 2, "2 strings"),
        ("BYTES", b"\1\0\0\0a", 0, "0 strings"),
    ],
)
def test_bytes_that_are_not_their_tensor_are_refused(datatype, data, count, detail) -> None:
    from mlcluster.serve.problem import RequestError

    with pytest.raises(RequestError, match=detail):
        decode_binary("x", datatype, memoryview(data), count)


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("BYTES", ["", "a", "Ħ"]),
        ("BOOL", [True, False]),
        ("INT64", [-(2**63), 2**63 - 1]),
        ("UINT64", [2**64 - 1]),
        ("FP64", [1.5, -0.0]),
        ("FP64", []),
    ],
)
def test_binary_values_come_back_as_they_went(datatype, values) -> None:
    assert decode_binary("x", datatype, memoryview(encode_binary(datatype, values)), len(values)) == values


def test_an_infinity_in_binary_is_refused(client) -> None:
    block = np.array([np.inf]).tobytes()
    body = request(income={"name": "income", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": 8}})
    text = json.dumps(body).encode()
    response = client.post(INFER, content=text + block, headers={HEADER: str(len(text))})
    assert assert_problem(response, 422)["field"] == "income"


def test_a_spec_is_json() -> None:
    spec = TensorSpec(name="x", datatype="FP64", shape=(-1, 1))
    assert spec.to_json() == {"name": "x", "datatype": "FP64", "shape": [-1, 1]}


def test_the_predictor_answers_a_table_with_columns_in_any_order() -> None:
    predictor = Predictor(sample_bundle("regression", "ordinal"))
    table = sample_table(20)
    shuffled = table.select(list(reversed(table.column_names)))
    np.testing.assert_array_equal(predictor.predict(shuffled).scores, predictor.predict(table).scores)
