from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from mlcluster.serve import Predictor, RequestLimits, build_app, parse_prediction_id
from mlcluster.serve.openapi import infer_example, invocation_example
from tests.registry.bundles import columns_of, sample_bundle, sample_table
from tests.serve.app_client import AppClient
from tests.serve.conftest import MemoryRecords

INFER = "/v2/models/demo/infer"
ROW = {"income": 50.5, "age": 41, "city": "Oslo", "code": 2, "member": True}


def records_body(**changes: object) -> dict:
    row = {name: value for name, value in (ROW | changes).items() if value is not ...}
    return {"dataframe_records": [row]}


def assert_problem(response, status: int) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["detail"] == body["error"] == body["message"]
    assert {"type", "title", "error_code"} <= body.keys()
    return body


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("encoding", ["dense", "ordinal"])
def test_http_and_batch_answer_the_same(start, task, encoding) -> None:
    bundle = sample_bundle(task, encoding)
    table = sample_table(700, seed=9)
    batch = Predictor(bundle).predict(table)
    client = start(bundle)
    columns = columns_of(table)
    inputs = [
        {"name": name, "shape": [700, 1], "datatype": datatype, "data": columns[name]}
        for name, datatype in (
            ("income", "FP64"), ("age", "INT64"), ("city", "BYTES"), ("code", "INT64"), ("member", "BOOL"),
        )
    ]  # fmt: skip
    answer = client.post(INFER, json={"inputs": inputs}).json()
    outputs = {output["name"]: output for output in answer["outputs"]}
    scores = outputs["value" if task == "regression" else "probabilities"]
    np.testing.assert_allclose(np.reshape(scores["data"], scores["shape"]), batch.scores, rtol=1e-6, atol=1e-6)
    labels = client.post("/invocations", json={"dataframe_records": table.to_pylist()}).json()["predictions"]
    if task == "regression":
        np.testing.assert_allclose(labels, batch.labels, rtol=1e-6)
    else:
        assert labels == outputs["label"]["data"] == batch.labels


def test_one_row_alone_is_answered_as_within_a_batch(predictor) -> None:
    table = sample_table(300, seed=5)
    together = predictor.predict(table).scores
    alone = np.concatenate([predictor.predict(table.slice(row, 1)).scores for row in range(300)])
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-12)


def test_no_rows_give_no_answers(client, predictor) -> None:
    assert predictor.predict(sample_table(0)).labels == []
    empty = [
        {"name": spec["name"], "shape": [0, 1], "datatype": spec["datatype"], "data": []}
        for spec in client.get("/v2/models/demo").json()["inputs"]
    ]
    response = client.post(INFER, json={"inputs": empty})
    assert response.status_code == 200
    assert [output["data"] for output in response.json()["outputs"]] == [[], []]
    split = {"dataframe_split": {"columns": list(ROW), "data": []}}
    assert client.post("/invocations", json=split).json()["predictions"] == []


def test_the_examples_of_the_documentation_are_answered(client, predictor) -> None:
    document = client.get("/openapi.json").json()
    num_examples = 0
    for path, item in document["paths"].items():
        if "post" in item:
            example = item["post"]["requestBody"]["content"]["application/json"]["example"]
            assert client.post(path, json=example).status_code == 200
            num_examples += 1
        else:
            assert client.get(path).status_code == 200
    assert num_examples == 3
    assert document["components"]["schemas"]["Row"]["required"] == list(ROW)
    assert client.get("/docs").status_code == 200
    assert infer_example(predictor)["inputs"][0]["name"] == "income"


def test_the_home_page_shows_the_columns_and_escapes_them(client) -> None:
    page = client.get("/").text
    assert all(name in page for name in ("demo", *ROW, "probabilities", "curl"))


def test_curl_without_a_content_type_of_its_own_is_answered(client, predictor) -> None:
    body = json.dumps(infer_example(predictor))
    response = client.post(INFER, content=body, headers={"content-type": "application/x-www-form-urlencoded"})
    assert response.status_code == 200
    assert client.post(INFER, content=body).status_code == 200


@pytest.mark.parametrize(
    "form",
    [
        {"dataframe_records": [ROW]},
        {"dataframe_split": {"columns": list(ROW), "data": [list(ROW.values())]}},
        {"dataframe_split": {"columns": list(reversed(ROW)), "index": [7], "data": [list(reversed(ROW.values()))]}},
        {"instances": [ROW]},
        {"instances": [list(ROW.values())]},
        {"inputs": {name: [value] for name, value in ROW.items()}},
        {"inputs": {name: [[value]] for name, value in ROW.items()}},
        {"inputs": ROW},
        {"inputs": [ROW]},
        {"inputs": [list(ROW.values())], "params": {"temperature": 1}},
    ],
)
def test_every_form_of_mlflow_gives_the_same_answer(client, form) -> None:
    response = client.post("/invocations", json=form)
    assert response.status_code == 200, response.text
    assert response.json()["predictions"] == client.post("/invocations", json=records_body()).json()["predictions"]


def test_csv_gives_the_same_answers_as_json(client) -> None:
    table = sample_table(50, seed=8)
    lines = [",".join(table.column_names)]
    lines += [",".join("" if value is None else str(value) for value in row.values()) for row in table.to_pylist()]
    response = client.post(
        "/invocations", content="\n".join(lines), headers={"content-type": "text/csv; charset=utf-8"}
    )
    assert response.status_code == 200, response.text
    expected = client.post("/invocations", json={"dataframe_records": table.to_pylist()})
    assert response.json()["predictions"] == expected.json()["predictions"]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ("income,age\n1", 422, "row 0 has 1 cells"),
        ("income,income\n1,2", 422, "income stands twice"),
        ("", 400, "empty"),
        ("income,age,city,code,member\nabc,1,Oslo,1,true", 422, "income = 'abc' in row 0"),
        ("income,age,city,code,member\n1_0,1,Oslo,1,true", 422, "income = '1_0' in row 0"),
        ("income,age,city,code,member\n1,1,Oslo,1,perhaps", 422, "member = 'perhaps' in row 0"),
        ("income,age,city,code,member\ninf,1,Oslo,1,1", 422, "income = inf in row 0"),
        ('"', 400, "not CSV"),
        (b"\xff\xfe", 400, "not CSV in UTF-8"),
        ("x" * 200_000, 400, "not CSV"),
    ],
)
def test_bad_csv_is_refused_by_name(client, body, status, detail) -> None:
    response = client.post("/invocations", content=body, headers={"content-type": "text/csv"})
    assert detail in assert_problem(response, status)["detail"]


def test_an_unseen_category_and_a_missing_value_are_answered(client) -> None:
    for row in ({"city": "Atlantis"}, {"city": None}, {"income": None}, {"code": 99}, {"age": 41.0}, {"income": 3}):
        assert client.post("/invocations", json=records_body(**row)).status_code == 200


def test_columns_that_the_model_does_not_take_but_the_source_had_are_left_aside(client) -> None:
    assert client.post("/invocations", json=records_body(outcome="yes")).status_code == 200


@pytest.mark.parametrize(
    ("changes", "field", "detail"),
    [
        ({"incme": 3, "income": ...}, "incme", "did you mean income?"),
        ({"wholly_else": 3}, "wholly_else", "income, age, city, code, member"),
        ({"age": ...}, "age", "is missing"),
        ({"age": "41"}, "age", "'41' in row 0 is no int64"),
        ({"age": 41.5}, "age", "is no int64"),
        ({"age": True}, "age", "is no int64"),
        ({"age": 2**70}, "age", "is no int64"),
        ({"age": [41]}, "age", "is no int64"),
        ({"income": {"a": 1}}, "income", "is no double"),
        ({"city": 3}, "city", "is no string"),
        ({"city": "\ud800"}, "city", "is no string"),
        ({"member": 1}, "member", "is no bool"),
        ({"code": "two"}, "code", "is no int64"),
    ],
)
def test_a_field_that_does_not_fit_is_named(client, changes, field, detail) -> None:
    response = client.post("/invocations", content=json.dumps(records_body(**changes)), headers=JSON)
    body = assert_problem(response, 422)
    assert body["field"] == field
    assert detail in body["detail"]
    assert body["error_code"] == "INVALID_PARAMETER_VALUE"


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("text", "status", "detail"),
    [
        ("{", 400, "line 1, column 2"),
        ("", 400, "not JSON"),
        ('{"dataframe_records": [}', 400, "(character 23)"),
        ("[]", 400, "a list, not an object"),
        ("null", 400, "null, not an object"),
        ("{}", 400, "exactly one of"),
        ('{"inputs": [], "instances": []}', 400, "exactly one of"),
        ('{"dataframe_records": [{"income": NaN}]}', 422, "NaN"),
        ('{"dataframe_records": [{"income": -Infinity}]}', 422, "-Infinity"),
        ('{"dataframe_records": [{"income": 1e400}]}', 422, "is missing"),
        ('{"dataframe_records": [{"income": 1, "income": 2}]}', 422, "income is given twice"),
        ('{"dataframe_records": []}', 422, "no row"),
        ('{"dataframe_records": [3]}', 422, "a number as row 0"),
        ('{"dataframe_records": [{"age": 1}, {"income": 1}]}', 422, "row 1"),
        ('{"instances": "all"}', 422, "a string"),
        ('{"instances": [[1], 2]}', 422, "row 0"),
        ('{"dataframe_split": {"columns": ["income"], "dta": []}}', 422, "did you mean data?"),
        ('{"dataframe_split": {"columns": ["income"], "data": [[1, 2]]}}', 422, "2 values in row 0"),
        ('{"inputs": {"income": [1, 2], "age": [1]}}', 422, "is missing"),
        ('{"input": {}}', 400, "none of them"),
        ('{"inputs": {}, "parms": {}}', 422, "did you mean params?"),
        ("[" * 100_000, 400, "nests too deeply"),
        ('{"inputs": ' + "[" * 100_000, 400, "nests too deeply"),
        ('{"inputs": ' + "[" * 900 + "]" * 900 + "}", 422, ""),
        ('{"inputs": {"income": ' + "9" * 5_000 + "}}", 422, "too many digits"),
        (b"\xff\xfe{\x00", 400, "not UTF-8"),
        (b"\xef\xbb\xbf{}", 400, "BOM"),
    ],
)
def test_a_malformed_invocation_is_refused_with_its_place(client, text, status, detail) -> None:
    response = client.post("/invocations", content=text, headers=JSON)
    assert detail in assert_problem(response, status)["detail"]


def test_columns_of_unequal_length_are_named(client) -> None:
    body = {"inputs": {name: [value] for name, value in ROW.items()} | {"age": [1, 2]}}
    assert assert_problem(client.post("/invocations", json=body), 422)["field"] == "age"


@pytest.mark.parametrize(
    ("content_type", "status"),
    [("text/html", 415), ("application/json; charset=utf-16", 415), ("application/json; charset=UTF-8", 200)],
)
def test_another_content_type_is_refused(client, content_type, status) -> None:
    body = json.dumps(records_body())
    for url in ("/invocations", INFER) if status == 415 else ("/invocations",):
        assert client.post(url, content=body, headers={"content-type": content_type}).status_code == status
    compressed = client.post("/invocations", content=body, headers=JSON | {"content-encoding": "gzip"})
    assert_problem(compressed, 415)


def test_unknown_routes_and_methods_are_problems_too(client) -> None:
    assert_problem(client.get("/nowhere"), 404)
    assert client.get("/invocations").headers["allow"] == "POST"
    assert "use POST" in assert_problem(client.get(INFER), 405)["detail"]
    assert_problem(client.post("/v2/models/other/infer", json={}), 404)
    assert_problem(client.post("/v2/models/demo/versions/9/infer", json={}), 404)
    assert_problem(client.get("/v2/models/demo/versions/9/ready"), 404)


def test_health_and_version_routes_answer(client) -> None:
    for url in ("/v2/health/live", "/v2/health/ready", "/v2", "/v2/", "/ping", "/health", "/version",
                "/v2/models/demo/ready", "/v2/models/demo/versions/3/ready", "/v2/models/demo/versions/3"):  # fmt: skip
        assert client.get(url).status_code == 200


def test_an_announced_body_that_is_too_large_is_refused_before_it_is_read(start) -> None:
    client = start(limits=RequestLimits(max_body_bytes=1_000))
    read: list[int] = []

    async def chunks():
        read.append(1)
        yield b"x"

    headers = JSON | {"content-length": str(100 * 2**20)}
    response = client.post("/invocations", content=chunks(), headers=headers)
    assert "1000 bytes" in assert_problem(response, 413)["detail"]
    assert response.headers["connection"] == "close"
    assert not read


def test_a_streamed_body_that_grows_too_large_is_refused(predictor, records) -> None:
    app = build_app(predictor, record=records, limits=RequestLimits(max_body_bytes=1_000))
    status, num_chunks = asyncio.run(post_chunks(app, (b"x" * 100 for _ in range(1_000))))
    assert status == 413
    assert num_chunks == 11


def test_an_upload_that_stalls_is_ended(predictor, records) -> None:
    app = build_app(predictor, record=records, limits=RequestLimits(body_timeout_seconds=0.05))
    status, _ = asyncio.run(post_chunks(app, iter([b"{"]), stall=True))
    assert status == 408


def test_a_client_that_leaves_is_no_error(predictor, records) -> None:
    app = build_app(predictor, record=records)
    status, _ = asyncio.run(post_chunks(app, iter([b"{"]), leave=True))
    assert status is None


async def post_chunks(app, chunks, *, stall: bool = False, leave: bool = False) -> tuple[int | None, int]:
    """The answer's status and the number of chunks that were read of a body without an announced length."""
    status: int | None = None
    num_chunks = 0

    async def receive():
        nonlocal num_chunks
        chunk = next(chunks, None)
        if chunk is None and stall:
            await asyncio.sleep(10)
        if chunk is None and leave:
            return {"type": "http.disconnect"}
        num_chunks += 1
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    async def send(message):
        nonlocal status
        status = message.get("status", status)

    headers = [(b"content-type", b"application/json"), (b"host", b"test")]
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": "/invocations",
        "raw_path": b"/invocations", "query_string": b"", "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("test", 80),
    }  # fmt: skip
    await app(scope, receive, send)
    return status, num_chunks


def test_too_many_rows_are_refused(start) -> None:
    client = start(limits=RequestLimits(max_rows=2))
    assert "at most 2" in assert_problem(client.post("/invocations", json={"instances": [ROW] * 3}), 422)["detail"]


def test_one_request_too_many_is_told_when_to_come_again(start) -> None:
    client = start(limits=RequestLimits(max_in_flight=2))
    # Bodies that need a thread, so that all are in work at once.
    body = {"json": {"instances": [ROW] * 2_000}}
    answers = client.together(*[("POST", "/invocations", body)] * 6, ("GET", "/v2/health/live", {}))
    assert answers[-1].status_code == 200
    busy = [answer for answer in answers if answer.status_code == 429]
    assert busy
    assert {answer.status_code for answer in answers} == {200, 429}
    assert all(answer.headers["retry-after"] == "1" for answer in busy)
    assert client.post("/invocations", json=records_body()).status_code == 200


def test_every_prediction_bears_an_id_that_leads_to_its_record(client, records) -> None:
    response = client.post("/invocations", json=records_body())
    prediction_id = response.headers["x-prediction-id"]
    assert response.json()["metadata"]["prediction_id"] == prediction_id
    parts = parse_prediction_id(f"{prediction_id}#0")
    assert (parts.model, parts.version, parts.row) == ("demo", "3", 0)
    (record,) = records.records
    assert (record.id, record.trial_id, record.num_rows) == (prediction_id, "t-007", 1)
    assert record.inputs == {name: [value] for name, value in ROW.items()}
    assert record.outputs["label"] == response.json()["predictions"]


def test_many_rows_are_recorded_by_their_count_and_digest(client, records) -> None:
    client.post("/invocations", json={"instances": [ROW] * 101})
    (record,) = records.records
    assert (record.num_rows, record.inputs, record.outputs, len(record.digest)) == (101, None, None, 64)


def test_a_request_id_is_echoed_or_made(client) -> None:
    assert client.get("/ping", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert len(client.get("/nowhere").headers["x-request-id"]) == 32
    assert client.get("/ping", headers={"x-request-id": "a b\t"}).headers["x-request-id"] != "a b\t"


def test_a_fault_of_the_model_is_a_500_that_says_so_and_the_server_goes_on(predictor, records, monkeypatch) -> None:
    client = AppClient(build_app(predictor, record=records))
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "_scores", lambda self, features: np.full((len(features), 2), np.nan))
        assert "fault of the server" in assert_problem(client.post("/invocations", json=records_body()), 500)["detail"]
    assert client.post("/invocations", json=records_body()).status_code == 200
    client.close()


def test_the_metrics_count_by_route_and_not_by_path(client, predictor) -> None:
    client.post("/invocations", json=invocation_example(predictor))
    client.post("/invocations", json={"instances": [ROW] * 3})
    client.post(INFER, json={})
    client.get("/a/made/up/path")
    text = client.get("/metrics").text
    assert 'mlcluster_requests_total{model="demo",replica="",route="/invocations",status="200",version="3"} 2.0' in text
    assert (
        'mlcluster_requests_total{model="demo",replica="",route="/v2/models/{name}/infer",status="422",version="3"} 1.0'
        in text
    )
    assert 'mlcluster_requests_total{model="demo",replica="",route="other",status="404",version="3"} 1.0' in text
    assert 'mlcluster_rows_total{model="demo",replica="",version="3"} 4.0' in text
    assert 'mlcluster_model_info{model="demo",replica="",version="3"} 1.0' in text
    assert 'mlcluster_requests_in_flight{model="demo",replica="",version="3"} 0.0' in text
    assert "/a/made" not in text


def test_two_apps_in_one_process_count_apart(start) -> None:
    first, second = start(), start()
    first.post("/invocations", json=records_body())
    assert 'route="/invocations"' not in second.get("/metrics").text


def test_records_are_closed_when_the_app_stops(predictor) -> None:
    records = MemoryRecords()
    app = build_app(predictor, record=records)

    said = iter(["lifespan.startup", "lifespan.shutdown"])
    heard: list[str] = []

    async def receive() -> dict[str, str]:
        assert not records.is_closed
        return {"type": next(said)}

    async def send(message: dict[str, str]) -> None:
        heard.append(message["type"])

    asyncio.run(app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send))
    assert heard == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert records.is_closed
