"""All columns of a model of numbers as one tensor: the answers, records and refusals of a tensor a column."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcluster.data import FeatureColumn, TableSchema
from mlcluster.data.fit import fit_transform
from mlcluster.data.statistics import number_partial
from mlcluster.registry import Bundle, to_onnx
from mlcluster.serve.grpc.messages import MESSAGES
from mlcluster.serve.records.layout import MAX_RECORDED_ROWS
from mlcluster.spec import Expectation
from tests.registry.bundles import Task, sample_bundle
from tests.registry.structures import random_ensemble, random_net
from tests.serve.grpc_site import grpc_site
from tests.serve.test_fast_answers import INFER, JSON, Both, dumps, way_of
from tests.serve.test_grpc import call, refused
from tests.serve.test_random_requests import SCALARS

NAMES = ("income", "weight", "age")
HEADER = "inference-header-content-length"
SETTINGS = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


def bundle_of(task: Task = "binary", *, trees: bool = False, expect: dict[str, Expectation] | None = None) -> Bundle:
    """Three columns of numbers: a double that may be missing, one of 32 bits, and a whole number."""
    given = sample_bundle(task)
    kinds = {"income": "double", "weight": "float", "age": "int64"}
    features = tuple(
        FeatureColumn(name=name, kind="number", arrow_type=kind, has_missing=name == "income")
        for name, kind in kinds.items()
    )
    schema = TableSchema(features=features, target=given.schema.target, expect=expect or {})
    rng = np.random.default_rng(5)
    drawn = {"income": rng.normal(50, 20, 500), "weight": rng.normal(70, 9, 500), "age": rng.integers(18, 90, 500)}
    partials = {name: number_partial(pa.chunked_array([values])) for name, values in drawn.items()}
    transform = fit_transform(schema, partials, "ordinal" if trees else "dense")
    num_raw, link = {"binary": (1, "sigmoid"), "multiclass": (3, "softmax"), "regression": (1, "identity")}[task]
    structure: Any = (
        random_ensemble(rng, num_inputs=transform.num_outputs, num_outputs=num_raw, num_trees=10, link=link)
        if trees
        else random_net(rng, (transform.num_outputs, 8, num_raw), link)
    )
    example = ({"income": 50.5, "weight": 70.0, "age": 41},)
    return replace(given, model=to_onnx(structure), transform=transform, schema=schema, input_example=example)


def drawn_rows(num_rows: int, seed: int = 0) -> npt.NDArray[np.float64]:
    """(rows, columns), of which some are missing."""
    rng = np.random.default_rng(seed)
    rows = np.column_stack(
        [rng.normal(50, 20, num_rows), rng.normal(70, 9, num_rows), rng.integers(18, 90, num_rows).astype(float)]
    )
    rows[rng.random(rows.shape) < 0.1] = np.nan
    return rows


def listed(values: npt.NDArray[Any]) -> list[Any]:
    return [None if np.isnan(value) else float(value) for value in values]


def as_json(rows: npt.NDArray[Any], *, nested: bool = False, datatype: str = "FP64") -> bytes:
    data: list[Any] = [listed(row) for row in rows] if nested else listed(rows.ravel())
    tensor = {"name": "features", "shape": list(rows.shape), "datatype": datatype, "data": data}
    return dumps({"inputs": [tensor]})


def as_bytes(rows: npt.NDArray[Any], datatype: str = "FP64", **members: Any) -> tuple[bytes, dict[str, str]]:
    block = rows.astype({"FP64": "<f8", "FP32": "<f4"}[datatype]).tobytes()
    tensor = {"name": "features", "shape": list(rows.shape), "datatype": datatype}
    document = dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(block)}}], **members})
    return document + block, {"content-type": "application/octet-stream", HEADER: str(len(document))}


def by_column(rows: npt.NDArray[Any]) -> bytes:
    tensors = [
        {"name": name, "shape": [len(rows)], "datatype": "FP64", "data": listed(rows[:, at])}
        for at, name in enumerate(NAMES)
    ]
    return dumps({"inputs": tensors})


def both_of(bundle: Bundle) -> Both:
    return Both(fast=way_of(bundle, is_fast=True), careful=way_of(bundle, is_fast=False))


def close(both: Both) -> None:
    both.fast.client.close()
    both.careful.client.close()


@pytest.fixture(scope="module", params=["binary", "multiclass", "regression", "trees", "rules"])
def both(request: pytest.FixtureRequest) -> Iterator[Both]:
    made = {
        "trees": lambda: bundle_of(trees=True),
        "rules": lambda: bundle_of(expect={"age": Expectation(min=0, max=120), "weight": Expectation(not_null=False)}),
    }
    ways = both_of(made.get(request.param, lambda: bundle_of(request.param))())
    yield ways
    close(ways)


@pytest.mark.parametrize("num_rows", [1, 7, 40, 150])
@pytest.mark.parametrize("form", ["flat", "nested", "FP64", "FP32"])
def test_it_has_the_answers_and_records_of_a_tensor_a_column(both: Both, num_rows: int, form: str) -> None:
    rows = drawn_rows(num_rows, seed=num_rows)
    if form == "FP32":
        rows = rows.astype(np.float32)
    body, headers = as_bytes(rows, form) if form.startswith("FP") else (as_json(rows, nested=form == "nested"), JSON)
    assert both.agree(INFER, body, headers) == (200, True)
    found, expected = both.fast.ask(INFER, body, headers), both.careful.ask(INFER, by_column(rows), JSON)
    for answer in (found, expected):
        for record in answer[3]:
            record["digest"] = ""  # the bodies are others
    assert found == expected
    if num_rows <= MAX_RECORDED_ROWS:
        (record,) = found[3]
        assert record["inputs"]["age"] == [None if np.isnan(age) else int(age) for age in rows[:, 2]]


def test_it_is_answered_as_bytes_where_that_is_asked_for(both: Both) -> None:
    body, headers = as_bytes(drawn_rows(3), id="m-1", parameters={"binary_data_output": True})
    assert both.agree(INFER, body, headers) == (200, True)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"shape": [2, 2]}, "features has shape [2, 2]; send [n, 3] for n rows."),
        ({"shape": [6]}, "features has shape [6]; send [n, 3] for n rows."),
        ({"shape": [2, 3, 1]}, "features has shape [2, 3, 1]; send [n, 3] for n rows."),
        ({"shape": [2, True]}, "features has no shape of whole numbers; send [n, 3] for n rows."),
        ({"shape": None}, "features has no shape of whole numbers; send [n, 3] for n rows."),
        ({"datatype": "BYTES"}, "features has datatype BYTES; send FP64."),
        ({"data": [1.0] * 5}, "features has 5 values of data for shape [2, 3]; send 6."),
        ({"data": [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0]]}, "features has a row of 4 values; send 3 in each."),
        ({"data": [[1.0, 2.0, 3.0]]}, "features has 3 values of data for shape [2, 3]; send 6."),
        ({"data": [[1.0, 2.0, 3.0], 4.0]}, "features has ragged data; send a flat list, or one list a row."),
        ({"data": "abcdef"}, "features has data that is a string; send a list."),
        ({"data": [1.0, 2.0, "x", 4.0, 5.0, 6.0]}, "age = 'x' in row 0 is no int64; "),
        ({"data": [1.0, 2.0, 3.5, 4.0, 5.0, 6.0]}, "age = 3.5 in row 0 is no int64; "),
        ({"parameters": {"binary_data_size": 8}}, "features has a binary_data_size that the body does not hold"),
    ],
)
def test_what_is_wrong_with_it_is_refused_by_name(both: Both, changes: dict[str, Any], complaint: str) -> None:
    tensor = {"name": "features", "shape": [2, 3], "datatype": "FP64", "data": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}
    body = dumps({"inputs": [tensor | changes]})
    assert both.agree(INFER, body) == (422, False)
    detail = both.careful.ask(INFER, body, JSON)[1][0]["detail"]
    assert detail.startswith(complaint)


@pytest.mark.parametrize("value", [np.inf, -np.inf, 3.5, 1e19])
@pytest.mark.parametrize("num_rows", [2, 30])
def test_a_value_that_its_column_cannot_have_is_refused_in_bytes(both: Both, value: float, num_rows: int) -> None:
    rows = np.abs(np.nan_to_num(drawn_rows(num_rows), nan=40.0))
    rows[1, 2] = value
    assert both.agree(INFER, *as_bytes(rows)) == (422, False)


def test_a_rule_of_the_project_holds() -> None:
    ways = both_of(bundle_of(expect={"age": Expectation(max=120)}))
    rows = np.full((30, 3), 40.0)
    assert ways.agree(INFER, *as_bytes(rows)) == (200, True)
    rows[29, 2] = 121.0
    assert ways.agree(INFER, *as_bytes(rows)) == (422, False)
    close(ways)


def test_bytes_that_are_too_few_or_too_many_are_refused(both: Both) -> None:
    body, headers = as_bytes(drawn_rows(20))
    assert both.agree(INFER, body[:-8], headers) == (422, False)
    assert both.agree(INFER, body + b"\0", headers) == (400, False)


def test_it_stands_alone(both: Both) -> None:
    rows = drawn_rows(2)
    matrix, columns = json.loads(as_json(rows))["inputs"], json.loads(by_column(rows))["inputs"]
    body = dumps({"inputs": [*matrix, *columns]})
    assert both.agree(INFER, body) == (422, False)
    document = both.careful.ask(INFER, body, JSON)[1][0]
    assert (document["field"], document["detail"]) == (
        "features",
        "features holds all columns, and stands beside others; send it alone.",
    )


@given(data=st.data())
@SETTINGS
def test_whatever_stands_in_it_is_answered_alike(both: Both, data: st.DataObject) -> None:
    num_rows = data.draw(st.integers(0, 3))
    cells = data.draw(st.lists(SCALARS, min_size=num_rows * 3, max_size=num_rows * 3))
    rows: list[Any] = [cells[at : at + 3] for at in range(0, len(cells), 3)] if data.draw(st.booleans()) else cells
    tensor = {"name": "features", "shape": [num_rows, 3], "datatype": "FP64", "data": rows}
    changes = st.fixed_dictionaries(
        {}, optional={"shape": SCALARS | st.just([num_rows]), "datatype": st.sampled_from(["FP32", "INT8", "FP16", 1])}
    )
    both.agree(INFER, json.dumps({"inputs": [tensor | data.draw(changes)]}).encode())


@given(data=st.data())
@SETTINGS
def test_whatever_bytes_it_has_are_answered_alike(both: Both, data: st.DataObject) -> None:
    num_rows, datatype = data.draw(st.integers(1, 14)), data.draw(st.sampled_from(["FP64", "FP32"]))
    width = 64 if datatype == "FP64" else 32
    plain = st.floats(-1e6, 1e6, width=width) | st.integers(0, 120).map(float) | st.just(np.nan)
    cells = plain | st.floats(width=width) if data.draw(st.booleans()) else plain
    values = data.draw(st.lists(cells, min_size=num_rows * 3, max_size=num_rows * 3))
    body, headers = as_bytes(np.array(values).reshape(-1, 3), datatype)
    both.agree(INFER, body, headers)


@given(data=st.data())
@SETTINGS
def test_a_byte_that_is_changed_in_its_head_is_answered_alike(both: Both, data: st.DataObject) -> None:
    body, headers = as_bytes(np.full((12, 3), 40.0))
    length = int(headers[HEADER])
    head = bytearray(body[:length])
    at = data.draw(st.integers(0, length - 1))
    head[at : at + 1] = data.draw(st.sampled_from([b'"', b"\\", b"1", b"3", b"{", b",", b"-"]))
    both.agree(INFER, bytes(head) + body[length:], headers)


def test_the_metadata_and_the_document_name_it(both: Both) -> None:
    client = both.fast.client
    properties = client.get("/v2/models/demo").json()["properties"]
    assert json.loads(properties["matrix_input"]) == {"name": "features", "datatype": "FP64", "shape": [-1, 3]}
    operation = client.get("/openapi.json").json()["paths"]["/v2/models/demo/infer"]["post"]
    tensors = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]["inputs"]
    assert tensors["items"]["properties"]["name"]["enum"] == [*NAMES, "features"]
    assert "features" in tensors["description"]


def test_a_model_with_other_columns_takes_none() -> None:
    ways = both_of(sample_bundle())
    assert "matrix_input" not in ways.fast.client.get("/v2/models/demo").json()["properties"]
    assert ways.agree(INFER, as_json(drawn_rows(1))) == (422, False)
    close(ways)


def test_a_column_of_that_name_is_the_column() -> None:
    bundle = bundle_of()
    features = (replace(bundle.schema.features[0], name="features"), *bundle.schema.features[1:])
    transform = replace(
        bundle.transform, columns=(replace(bundle.transform.columns[0], name="features"), *bundle.transform.columns[1:])
    )
    renamed = replace(bundle, transform=transform, schema=replace(bundle.schema, features=features), input_example=())
    ways = both_of(renamed)
    assert ways.agree(INFER, as_json(drawn_rows(1))) == (422, False)
    tensors = json.loads(by_column(drawn_rows(2)))["inputs"]
    assert ways.agree(INFER, dumps({"inputs": [tensors[0] | {"name": "features"}, *tensors[1:]]})) == (200, True)
    close(ways)


@pytest.mark.parametrize("is_raw", [True, False])
def test_by_grpc_it_has_the_numbers_of_http(is_raw: bool) -> None:
    rows = drawn_rows(5)
    with grpc_site(bundle_of()) as site:
        message = MESSAGES["ModelInferRequest"](model_name="demo")
        tensor = message.inputs.add(name="features", datatype="FP64", shape=rows.shape)
        if is_raw:
            message.raw_input_contents.append(rows.astype("<f8").tobytes())
        else:
            tensor.contents.fp64_contents.extend(rows.ravel().tolist())
        response, _ = call(site, "ModelInfer", message)
        expected = site.http.post(INFER, content=by_column(rows)).json()["outputs"][1]["data"]
        found = (
            np.frombuffer(response.raw_output_contents[1], "<f8").tolist()
            if is_raw
            else list(response.outputs[1].contents.fp64_contents)
        )
        assert found == expected
        message.inputs[0].shape[1] = 2
        assert "features has shape [5, 2]; send [n, 3] for n rows." in refused(site, "ModelInfer", message).details()
