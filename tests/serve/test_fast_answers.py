"""The short way and the careful one: the same status, the same answer, the same record, whatever is sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp

from mlcluster.registry import Bundle
from mlcluster.serve import Predictor, build_app
from mlcluster.serve.short_way.path import FastPath
from tests.registry.bundles import Task, sample_bundle, sample_table
from tests.serve.app_client import AppClient
from tests.serve.conftest import MemoryRecords
from tests.serve.test_random_requests import VALUES

INFER, VERSIONED, INVOKE = "/v2/models/demo/infer", "/v2/models/demo/versions/3/infer", "/invocations"
JSON = {"content-type": "application/json"}
NAMED = {"x-request-id": "r-1", "traceparent": f"00-{'a1' * 16}-{'b2' * 8}-01"}
SETTINGS = settings(max_examples=200, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True, kw_only=True)
class Way:
    """One of the two, with what it recorded."""

    client: AppClient
    records: MemoryRecords
    asked: list[str]
    """Paths that reached the careful application."""

    def ask(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any, dict[str, str], list[Any]]:
        """Status, JSON without ids, the headers that matter, and the records without ids, times and latencies."""
        self.records.records.clear()
        response = self.client.post(path, content=body, headers=NAMED | headers)
        kept = {name: response.headers.get(name) for name in ("content-type", "inference-header-content-length")}
        records = [asdict(record) | {"id": "", "received_at": "", "latency_ms": 0} for record in self.records.records]
        length = int(kept["inference-header-content-length"] or len(response.content))
        document = json.loads(response.content[:length])
        for holder in (document.get("parameters"), document.get("metadata")):
            if holder is not None:
                assert holder.pop("prediction_id") == response.headers["x-prediction-id"]
        kept["inference-header-content-length"] = str(length != len(response.content))
        return response.status_code, (document, response.content[length:]), kept, records


def way_of(bundle: Bundle, *, is_fast: bool) -> Way:
    records, asked = MemoryRecords(), []
    app = build_app(Predictor(bundle), record=records)
    assert isinstance(app, FastPath)
    careful = app.careful

    async def seen(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        await careful(scope, receive, send)

    app.careful = seen
    chosen: ASGIApp = app if is_fast else seen
    return Way(client=AppClient(chosen), records=records, asked=asked)


@dataclass(frozen=True, kw_only=True)
class Both:
    fast: Way
    careful: Way

    def agree(self, path: str, body: bytes, headers: dict[str, str] = JSON) -> tuple[int, bool]:
        """The status of both, and whether the short way had it."""
        self.fast.asked.clear()
        found, expected = self.fast.ask(path, body, headers), self.careful.ask(path, body, headers)
        assert found == expected
        return found[0], not self.fast.asked


@pytest.fixture(scope="module", params=["binary", "multiclass", "regression"])
def both(request: pytest.FixtureRequest) -> Iterator[Both]:
    task: Task = request.param
    bundle = sample_bundle(task)
    ways = Both(fast=way_of(bundle, is_fast=True), careful=way_of(bundle, is_fast=False))
    yield ways
    ways.fast.client.close()
    ways.careful.client.close()


def tensors(num_rows: int, seed: int = 0) -> list[dict[str, Any]]:
    kinds = {"income": "FP64", "age": "INT64", "city": "BYTES", "code": "INT64", "member": "BOOL"}
    table = sample_table(num_rows, seed=seed)
    return [
        {"name": name, "shape": [num_rows, 1], "datatype": kind, "data": table[name].to_pylist()}
        for name, kind in kinds.items()
    ]


def dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("num_rows", [1, 2, 40])
@pytest.mark.parametrize(
    "make",
    [
        lambda inputs: (INFER, {"inputs": inputs}),
        lambda inputs: (VERSIONED, {"id": "ü-1", "inputs": inputs}),
        lambda inputs: (INFER, {"inputs": inputs, "parameters": {"binary_data_output": True}}),
        lambda inputs: (INFER, {"inputs": [{**one, "shape": one["shape"][:1]} for one in reversed(inputs)]}),
        lambda inputs: (
            INVOKE,
            {"dataframe_split": {"columns": [one["name"] for one in inputs], "data": rows(inputs)}},
        ),
        lambda inputs: (INVOKE, {"dataframe_records": records(inputs)}),
    ],
)
def test_what_is_plainly_valid_takes_the_short_way(both: Both, make: Callable[[Any], Any], num_rows: int) -> None:
    path, body = make(tensors(num_rows, seed=num_rows))
    assert both.agree(path, dumps(body)) == (200, True)
    assert both.agree(path, json.dumps(body, ensure_ascii=False).encode()) == (200, True)


def rows(inputs: list[dict[str, Any]]) -> list[list[Any]]:
    return [list(row) for row in zip(*(one["data"] for one in inputs), strict=True)]


def records(inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [dict(zip((one["name"] for one in inputs), row, strict=True)) for row in rows(inputs)]


@pytest.mark.parametrize("num_rows", [1, 32])
@pytest.mark.parametrize("missing", [False, True])
def test_binary_numbers_take_it_too(both: Both, num_rows: int, missing: bool) -> None:
    inputs, blocks = [], []
    for one in tensors(num_rows):
        if one["datatype"] in ("BYTES", "BOOL"):
            inputs.append(one)
            continue
        dtype = {"FP64": "<f8", "INT64": "<i8"}[one["datatype"]]
        values = [np.nan if value is None else value for value in one["data"]]
        if missing and dtype == "<f8":
            values[0] = np.nan
        block = np.array(values, dtype=dtype).tobytes()
        blocks.append(block)
        inputs.append(
            {name: one[name] for name in ("name", "shape", "datatype")}
            | {"parameters": {"binary_data_size": len(block)}}
        )
    document = dumps({"inputs": inputs})
    headers = JSON | {"inference-header-content-length": str(len(document)), "content-type": "application/octet-stream"}
    assert both.agree(INFER, document + b"".join(blocks), headers) == (200, True)


VALID = dumps({"inputs": [one if one["name"] != "city" else {**one, "data": ["Oslo"]} for one in tensors(1)]}).decode()


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        ('{"inputs"', '{"inputs": [], "inputs"', 422),
        ('"name": "age"', '"name": "income", "name": "age"', 422),
        ('"shape": [1, 1]', '"shape": [1, 1], "shape": [1, 1]', 422),
        ('"data": [', '"data": [], "data": [', 422),
        ('"data": ["Oslo"]', '"data": [5]', 422),
        ('"datatype": "INT64"', '"datatype": "FP32"', 200),
        ('"datatype": "BOOL"', '"datatype": "INT64"', 422),
        ('"shape": [1, 1]', '"shape": [1, true]', 422),
        ('"shape": [1, 1]', '"shape": [true]', 422),
        ('"shape": [1, 1]', '"shape": [1.0, 1]', 422),
        ('"shape": [1, 1]', '"shape": [1, 1, 1]', 422),
        ('"shape": [1, 1]', '"shape": []', 422),
        ('"inputs"', '"id": 5, "inputs"', 422),
        ('"inputs"', '"id": "\\ud800", "inputs"', 200),
        ('"inputs"', '"id": "a\\"b\\\\", "inputs"', 200),
        ('"inputs"', '"parameters": {"binary_data_output": true, "binary_data_output": false}, "inputs"', 422),
        ('"inputs"', '"outputs": [], "inputs"', 200),
        ('"inputs"', '"unknown": 1, "inputs"', 422),
    ],
)
def test_what_is_doubtful_is_told_apart(both: Both, old: str, new: str, status: int) -> None:
    body = VALID.replace(old, new, 1)
    assert body != VALID
    assert both.agree(INFER, body.encode())[0] == status


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/json; charset=utf-8"},
        {"content-type": "text/plain"},
        {"content-encoding": "gzip"},
        {"inference-header-content-length": "x"},
        {"inference-header-content-length": "5"},
        {"inference-header-content-length": "99999"},
    ],
)
def test_headers_of_all_kinds_are_answered_alike(both: Both, headers: dict[str, str]) -> None:
    both.agree(INFER, VALID.encode(), JSON | headers)


@given(body=VALUES)
@SETTINGS
def test_any_json_is_answered_alike(both: Both, body: Any) -> None:
    text = json.dumps(body).encode()
    for path in (INFER, INVOKE):
        both.agree(path, text)


@given(data=st.data())
@SETTINGS
def test_a_byte_that_is_changed_anywhere_is_answered_alike(both: Both, data: st.DataObject) -> None:
    body = bytearray(VALID.encode())
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b'"', b"\\", b"1", b"x", b"{", b",", b"-", b"e"])
        )
    both.agree(INFER, bytes(body))


@given(cells=st.lists(VALUES, min_size=5, max_size=5))
@SETTINGS
def test_rows_of_any_values_are_answered_alike(both: Both, cells: list[Any]) -> None:
    row = dict(zip(("income", "age", "city", "code", "member"), cells, strict=True))
    both.agree(INVOKE, dumps({"dataframe_records": [row]}))


def test_a_full_replica_and_a_number_that_is_not_finite_are_told_by_the_careful_way(monkeypatch: Any) -> None:
    way = way_of(sample_bundle(), is_fast=True)
    original = Predictor.predict_matrix

    def broken(self: Predictor, features: Any) -> Any:
        found = original(self, features)
        found.scores[:] = np.nan
        return found

    monkeypatch.setattr(Predictor, "predict_matrix", broken)
    response = way.client.post(INFER, content=VALID.encode(), headers=JSON)
    assert (response.status_code, way.asked) == (500, [INFER])
    assert isinstance(response, httpx.Response)
    assert way.records.records == []
    way.client.close()


@pytest.mark.parametrize(
    "number", ["-9223372036854775809", "18446744073709551616", "1e19", "9223372036854775807", "1e300"]
)
def test_numbers_that_parsers_take_for_different_ones_are_recorded_alike(both: Both, number: str) -> None:
    row = '{"income": NUMBER, "age": 41, "city": null, "code": 1, "member": true}'.replace("NUMBER", number)
    assert both.agree(INVOKE, f'{{"dataframe_records": [{row}]}}'.encode())[0] == 200
    tensor = VALID.replace(json.dumps(tensors(1)[0]["data"]), f"[{number}]", 1)
    assert tensor != VALID
    assert both.agree(INFER, tensor.encode())[0] == 200
