"""Plain requests take a way of their own: the answers are those of the careful one, which keeps what is not plain."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcluster.serve import Predictor, RequestLimits, build_app
from mlcluster.serve.short_way.answers import FastAnswers
from mlcluster.serve.tensors import BINARY_TYPES
from tests.registry.bundles import sample_bundle, sample_table
from tests.serve.app_client import AppClient
from tests.serve.conftest import MemoryRecords
from tests.serve.test_inference_protocol import HEADER, binary_request, request
from tests.serve.test_random_requests import CELLS, TENSORS, VALUES

SETTINGS = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
INFER = "/v2/models/demo/infer"
NAMED = {"x-request-id": "r-1", "traceparent": f"00-{'a1' * 16}-{'b2' * 8}-01"}
NAMES = ("income", "age", "city", "code", "member")
PLAIN = {
    "income": st.none() | st.floats(-1e9, 1e9) | st.integers(-100, 100),
    "age": st.none() | st.integers(0, 99),
    "city": st.none() | st.sampled_from(["Oslo", "Ħal Qormi", "a:b", 'a":"b', "\\", ""]),
    "code": st.none() | st.integers(0, 6),
    "member": st.none() | st.booleans(),
}
ROWS = st.lists(st.fixed_dictionaries(PLAIN), min_size=1, max_size=40)
MIXED_ROWS = st.lists(st.fixed_dictionaries({name: cell | CELLS for name, cell in PLAIN.items()}), max_size=3)


class BothWays:
    """One application, asked twice: a header that says nothing new sends the second request the careful way."""

    def __init__(self, predictor: Predictor) -> None:
        self._records = MemoryRecords()
        self.client = AppClient(build_app(predictor, record=self._records))

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        """The status, once all else was found to be the same but the id and the times."""
        short = self._asked(url, body, headers)
        careful = self._asked(url, body, headers | {"content-encoding": "identity"})
        assert short == careful
        return int(short["status"])

    def _asked(self, url: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
        self._records.records.clear()
        answer = self.client.post(url, content=body, headers=NAMED | headers)
        names = set(answer.headers) - {"x-prediction-id", "traceparent", "content-length"}
        assert answer.headers["traceparent"][:36] == NAMED["traceparent"][:36]
        prediction_id = answer.headers.get("x-prediction-id", "")
        length = int(answer.headers.get(HEADER, len(answer.content)))
        return {
            "status": answer.status_code,
            "headers": {name: answer.headers[name] for name in names},
            "document": json.loads(
                answer.content[:length].replace(prediction_id.encode(), b"ID" if prediction_id else b"")
            ),
            "bytes": answer.content[length:],
            "records": [self._kept(record, prediction_id) for record in self._records.records],
        }

    def _kept(self, record: Any, prediction_id: str) -> str:
        assert record.id == prediction_id
        names = ("model", "version", "trial_id", "num_rows", "digest", "inputs", "outputs", "request_id", "trace_id")
        return repr([getattr(record, name) for name in names])


@pytest.fixture(scope="module", params=["binary", "regression", "multiclass"])
def both(request) -> Iterator[BothWays]:
    ways = BothWays(Predictor(sample_bundle(request.param, "ordinal" if request.param == "multiclass" else "dense")))
    yield ways
    ways.client.close()


def forms_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The forms of MLflow's protocol."""
    lists = [[row[name] for name in NAMES] for row in rows]
    return [
        {"dataframe_split": {"columns": list(NAMES), "data": lists}},
        {"dataframe_split": {"columns": list(reversed(NAMES)), "data": [row[::-1] for row in lists]}},
        {"dataframe_records": rows},
        {"instances": lists},
        {"instances": rows},
        {"inputs": {name: [row[name] for row in rows] for name in NAMES}},
    ]


def tensors_of(rows: list[dict[str, Any]], **members: Any) -> dict[str, Any]:
    datatypes = dict(zip(NAMES, ("FP64", "INT64", "BYTES", "INT64", "BOOL"), strict=True))
    inputs = [
        {"name": name, "shape": [len(rows), 1], "datatype": datatypes[name], "data": [row[name] for row in rows]}
        for name in NAMES
    ]
    return {"inputs": inputs} | members


JSON_TYPE = {"content-type": "application/json"}


@given(rows=ROWS, form=st.integers(0, 5))
@SETTINGS
def test_plain_rows_have_one_answer_on_both_ways(both, rows, form) -> None:
    assert both.post("/invocations", json.dumps(forms_of(rows)[form]).encode(), JSON_TYPE) == 200


@given(rows=MIXED_ROWS, form=st.integers(0, 5))
@SETTINGS
def test_any_rows_have_one_answer_on_both_ways(both, rows, form) -> None:
    both.post("/invocations", json.dumps(forms_of(rows)[form]).encode(), JSON_TYPE)


@given(rows=ROWS, request_id=st.none() | st.text(max_size=5), wants_bytes=st.sampled_from([None, False, True]))
@SETTINGS
def test_plain_tensors_have_one_answer_on_both_ways(both, rows, request_id, wants_bytes) -> None:
    members: dict[str, Any] = {} if request_id is None else {"id": request_id}
    if wants_bytes is not None:
        members["parameters"] = {"binary_data_output": wants_bytes}
    assert both.post(INFER, json.dumps(tensors_of(rows, **members)).encode(), JSON_TYPE) == 200


@given(inputs=st.lists(TENSORS, max_size=6), outputs=st.none() | VALUES, header=st.none() | st.integers(-5, 500))
@SETTINGS
def test_any_tensors_have_one_answer_on_both_ways(both, inputs, outputs, header) -> None:
    body = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    both.post(INFER, body, {} if header is None else {HEADER: str(header)})


@given(rows=st.lists(st.fixed_dictionaries(PLAIN), min_size=1, max_size=1), data=st.data())
@SETTINGS
def test_any_change_to_the_text_of_a_request_has_one_answer_on_both_ways(both, rows, data) -> None:
    text = json.dumps(data.draw(st.sampled_from([tensors_of(rows, id="x"), *forms_of(rows)[:3]])))
    at = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 4))
    put = data.draw(
        st.sampled_from(["", " ", ":", '"', "\\", "0", "-", "1e400", "NaN", "null", '"id":1,', "[", "}", "é"])
    )
    body = (text[:at] + put + text[at + length :]).encode()
    both.post(INFER if "shape" in text else "/invocations", body, JSON_TYPE)


@pytest.mark.parametrize("num_rows", [1, 15, 16, 100, 101, 300])
@pytest.mark.parametrize("wants_bytes", [False, True])
def test_bytes_have_one_answer_on_both_ways(both, num_rows, wants_bytes) -> None:
    table = sample_table(num_rows, seed=num_rows)
    income = np.array(table.column("income").to_pylist(), dtype=np.float64)
    city = [(text or "").encode() for text in table.column("city").to_pylist()]
    blocks = {
        "income": ("FP64", income.tobytes()),
        "age": ("UINT8", table.column("age").to_numpy().astype("u1").tobytes()),
        "city": ("BYTES", b"".join(struct.pack("<I", len(text)) + text for text in city)),
        "code": ("INT64", table.column("code").to_numpy().tobytes()),
        "member": ("BOOL", table.column("member").to_numpy().tobytes()),
    }
    inputs = [
        {"name": name, "datatype": datatype, "shape": [num_rows, 1], "parameters": {"binary_data_size": len(block)}}
        for name, (datatype, block) in blocks.items()
    ]
    document = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": wants_bytes}}).encode()
    body = document + b"".join(block for _, block in blocks.values())
    headers = {HEADER: str(len(document)), "content-type": "application/octet-stream"}
    assert both.post(INFER, body, headers) == 200
    assert both.post(INFER, body[:-1], headers) == 422
    assert both.post(INFER, body + b"x", headers) == 400


PLAIN_REQUESTS = {
    "tensors": (INFER, json.dumps(request()).encode(), JSON_TYPE),
    "versioned": ("/v2/models/demo/versions/3/infer", json.dumps(request()).encode(), {}),
    "one output": (INFER, json.dumps(request() | {"outputs": [{"name": "label"}]}).encode(), JSON_TYPE),
    "bytes": (INFER, *binary_request(parameters={"binary_data_output": True})),
    **{
        f"rows {index}": ("/invocations", json.dumps(form).encode(), JSON_TYPE)
        for index, form in enumerate(forms_of(sample_table(3).to_pylist()))
    },
}


@pytest.mark.parametrize("name", PLAIN_REQUESTS)
def test_plain_requests_do_take_the_short_way(client, records, monkeypatch, name) -> None:
    def fail(*_: object) -> None:
        pytest.fail("the request took the careful way")

    for careful in ("parse_infer_request", "parse_json_invocation"):
        monkeypatch.setattr(f"mlcluster.serve.predicting.{careful}", fail)
    url, body, headers = PLAIN_REQUESTS[name]
    assert client.post(url, content=body, headers=headers).status_code == 200
    assert len(records.records) == 1


def test_both_ways_are_counted_and_recorded_as_one(client, records) -> None:
    url, body, headers = PLAIN_REQUESTS["tensors"]
    client.post(url, content=body, headers=headers)
    client.post(url, content=body.replace(b"41", b"41.0"), headers=headers)
    text = client.get("/metrics").text
    assert (
        'mlcluster_requests_total{model="demo",replica="",route="/v2/models/{name}/infer",status="200",version="3"} 2.0'
        in text
    )
    assert 'mlcluster_rows_total{model="demo",replica="",version="3"} 2.0' in text
    assert len({record.id for record in records.records}) == 2


def test_a_fault_of_the_short_way_is_answered_by_the_careful_one(predictor, records, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(FastAnswers, "_invoke", fail)
    client = AppClient(build_app(predictor, record=records))
    url, body, headers = PLAIN_REQUESTS["rows 0"]
    assert client.post(url, content=body, headers=headers).status_code == 200
    client.close()


@pytest.mark.parametrize("num_parts", [1, 2, 7])
def test_a_body_that_comes_in_parts_and_late_is_answered(predictor, records, num_parts) -> None:
    _, body, _ = PLAIN_REQUESTS["rows 0"]
    size = -(-len(body) // num_parts)
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    statuses = asyncio.run(send_in_parts(build_app(predictor, record=records), parts, announced=len(body)))
    assert statuses == [200]
    assert len(records.records) == 1


def test_a_body_that_never_comes_is_ended(predictor, records) -> None:
    app = build_app(predictor, record=records, limits=RequestLimits(body_timeout_seconds=0.05))
    assert asyncio.run(send_in_parts(app, [b"{"], announced=10, stall=True)) == [408]


def test_a_client_that_leaves_early_is_told_nothing(predictor, records) -> None:
    app = build_app(predictor, record=records)
    assert asyncio.run(send_in_parts(app, [b"{"], announced=10, leave=True)) == []
    client = AppClient(app)
    assert 'route="/invocations",status="499",version="3"} 1.0' in client.get("/metrics").text
    assert 'mlcluster_requests_in_flight{model="demo",replica="",version="3"} 0.0' in client.get("/metrics").text
    client.close()


async def send_in_parts(
    app: Any, parts: list[bytes], *, announced: int, stall: bool = False, leave: bool = False
) -> list[int]:
    """The statuses that came back; each part comes a moment after it is asked for."""
    left, statuses = list(parts), []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(10 if stall and not left else 0.001)
        if not left:
            return {"type": "http.disconnect"}
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left) or leave or stall}

    async def send(message: dict[str, Any]) -> None:
        if "status" in message:
            statuses.append(message["status"])

    headers = [(b"content-type", b"application/json"), (b"content-length", str(announced).encode())]
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": "/invocations",
        "raw_path": b"/invocations", "query_string": b"", "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("test", 80),
    }  # fmt: skip
    await app(scope, receive, send)
    return statuses


@pytest.mark.parametrize("shape", [[True, 1], [1.0, 1], [1, True], [1.0], [True]])
@pytest.mark.parametrize("name", ["income", "member"])
def test_a_size_that_equals_a_whole_number_and_is_none_is_refused_on_both_ways(both, shape, name) -> None:
    document = request()
    next(tensor for tensor in document["inputs"] if tensor["name"] == name)["shape"] = shape
    assert both.post(INFER, json.dumps(document).encode(), JSON_TYPE) == 422


@pytest.mark.parametrize("header", ["+{0}", "-{0}", "{0}_0", "0x10", "{0}.0", ""])
def test_a_length_that_python_alone_would_read_is_refused_on_both_ways(both, header) -> None:
    body = json.dumps(request()).encode()
    assert both.post(INFER, body, JSON_TYPE | {HEADER: header.format(len(body))}) == 400


@pytest.mark.parametrize(
    ("url", "before", "after"),
    [
        (INFER, '"id": "x"', '"id": "y", "id": "x"'),
        (INFER, '"shape": [1, 1]', '"shape": [2, 1], "shape": [1, 1]'),
        (INFER, '"name": "income"', '"name": "age", "name": "income"'),
        (INFER, '"id": "x"', r'"id": "\"", "id": "x"'),
        ("/invocations", '"age": 41', '"age": 40, "age": 41'),
        ("/invocations", '"city": "Oslo"', r'"city": "\"", "city": "Oslo"'),
    ],
)
def test_a_key_given_twice_is_refused_on_both_ways(both, url, before, after) -> None:
    row = {"income": 50.5, "age": 41, "city": "Oslo", "code": 2, "member": True}
    text = json.dumps(tensors_of([row], id="x") if url == INFER else {"dataframe_records": [row]})
    assert both.post(url, text.encode(), JSON_TYPE) == 200
    assert before in text
    assert both.post(url, text.replace(before, after, 1).encode(), JSON_TYPE) == 422


@pytest.mark.parametrize("num_rows", [1, 7, 8, 20])
@pytest.mark.parametrize("datatype", [name for name in BINARY_TYPES if name != "BOOL"])
def test_numbers_of_every_width_have_one_answer_on_both_ways(both, datatype, num_rows) -> None:
    dtype = BINARY_TYPES[datatype]
    values = np.linspace(0, 90, num_rows).astype(dtype)
    if dtype.kind == "f":
        values[-1] = np.nan
    rows = sample_table(num_rows).to_pylist()
    document = tensors_of(rows)
    income = next(tensor for tensor in document["inputs"] if tensor["name"] == "income")
    del income["data"]
    income |= {"datatype": datatype, "parameters": {"binary_data_size": values.nbytes}}
    text = json.dumps(document).encode()
    assert both.post(INFER, text + values.tobytes(), {HEADER: str(len(text))}) == 200
