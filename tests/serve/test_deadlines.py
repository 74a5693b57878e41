"""How long a request is willing to wait: what has waited longer is not worked on, and is told so with 504."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from mlcluster.serve import Predictor, RequestLimits, build_app
from mlcluster.serve.deadline import Deadline
from mlcluster.serve.problem import RequestError
from tests.serve.app_client import AppClient
from tests.serve.front_site import site
from tests.serve.test_http_app import INFER, ROW, assert_problem, records_body
from tests.serve.test_inference_protocol import request as infer_body

__all__ = ["site"]
TIMEOUT = "x-request-timeout-ms"
RECEIVED = "x-mlcluster-received-ms"


def seconds_ago(seconds: float) -> str:
    return str(int((time.time() - seconds) * 1_000))


@pytest.mark.parametrize("url", [INFER, "/invocations"])
@pytest.mark.parametrize("name", [TIMEOUT, "x-envoy-expected-rq-timeout-ms"])
def test_a_request_that_has_waited_too_long_is_not_worked_on(client: AppClient, records: Any, url, name) -> None:
    body = infer_body() if url == INFER else records_body()
    late = client.post(url, json=body, headers={name: "1000", RECEIVED: seconds_ago(2)})
    assert "1000 ms had passed before the model was asked" in assert_problem(late, 504)["detail"]
    assert records.records == []
    assert client.post(url, json=body, headers={name: "3000", RECEIVED: seconds_ago(2)}).status_code == 200
    assert client.post(url, json=body, headers={name: "1000", RECEIVED: seconds_ago(-60)}).status_code == 200
    assert client.post(url, json=body, headers={name: "1000", RECEIVED: "soon"}).status_code == 200
    assert len(records.records) == 3


def test_without_a_word_the_servers_own_limit_counts(start) -> None:
    client = start(limits=RequestLimits(timeout_seconds=1.5))
    for headers in ({}, {TIMEOUT: "60000"}):
        late = client.post("/invocations", json=records_body(), headers=headers | {RECEIVED: seconds_ago(2)})
        assert "1500 ms" in assert_problem(late, 504)["detail"]


@pytest.mark.parametrize("sent", ["", "0", "-1", "1.5", "soon", "9" * 20, "1e3", "\u00b2"])
def test_what_is_no_time_is_refused_by_name(client: AppClient, sent: str) -> None:
    headers = [(TIMEOUT.encode(), sent.encode("latin-1")), (b"content-type", b"application/json")]
    problem = assert_problem(client.post("/invocations", json=records_body(), headers=headers), 400)
    assert TIMEOUT in problem["detail"]


def test_tritons_timeout_is_in_microseconds(client: AppClient) -> None:
    def ask(timeout: Any, **headers: str):
        return client.post(INFER, json=infer_body() | {"parameters": {"timeout": timeout}}, headers=headers)

    assert assert_problem(ask(1_000_000, **{RECEIVED: seconds_ago(2)}), 504)
    assert ask(5_000_000, **{RECEIVED: seconds_ago(2)}).status_code == 200
    assert ask(0, **{RECEIVED: seconds_ago(2)}).status_code == 200
    for timeout in (-1, 1.5, "1", True, 2**63):
        assert assert_problem(ask(timeout), 422)["field"] == "timeout"


def test_a_body_that_comes_too_late_is_not_worked_on(predictor: Predictor, records: Any) -> None:
    client = AppClient(build_app(predictor, record=records))
    body = json.dumps(records_body()).encode()

    async def slowly():
        yield body[:10]
        await asyncio.sleep(0.06)
        yield body[10:]

    headers = {"content-type": "application/json", TIMEOUT: "50"}
    assert_problem(client.post("/invocations", content=slowly(), headers=headers), 504)
    client.close()


def test_work_that_waits_for_a_thread_is_dropped_when_its_time_is_over(start, monkeypatch) -> None:
    client = start()
    seen: list[int] = []
    original = Predictor.predict

    def slow(self: Predictor, table: Any) -> Any:
        seen.append(table.num_rows)
        time.sleep(0.3)
        return original(self, table)

    monkeypatch.setattr(Predictor, "predict", slow)
    client.run_in(ThreadPoolExecutor(1))
    body = {"instances": [ROW] * 2_000}
    asked = ("POST", "/invocations", {"json": body, "headers": {TIMEOUT: "200"}})
    statuses = sorted(answer.status_code for answer in client.together(asked, asked, asked))
    assert statuses == [200, 504, 504]
    assert seen == [2_000]


def test_the_shortest_time_counts() -> None:
    headers = {b"x-request-timeout-ms": b"500", b"x-envoy-expected-rq-timeout-ms": b"300"}
    deadline = Deadline.of(headers, started=time.perf_counter(), default_seconds=60)
    assert deadline.timeout_seconds == 0.3
    assert deadline.within(0.1).timeout_seconds == 0.1
    assert deadline.within(9).timeout_seconds == 0.3
    deadline.check()
    with pytest.raises(RequestError, match="300 ms had passed"):
        Deadline.of(headers, started=time.perf_counter() - 1, default_seconds=60).check()


@pytest.mark.slow
def test_at_the_front_an_answer_that_is_too_slow_is_504_and_asked_for_once(site) -> None:
    at = site()
    at.add("a", seconds=0.5)
    started = time.perf_counter()
    late = httpx.post(at.url, headers={TIMEOUT: "100"})
    assert_problem(late, 504)
    assert time.perf_counter() - started < 0.4
    assert httpx.post(at.url, headers={TIMEOUT: "5000"}).text == "a"
    assert httpx.post(at.url).text == "a"
    assert RECEIVED in httpx.post(at.url).headers["x-seen-headers"]


@pytest.mark.slow
def test_what_waited_too_long_in_the_queue_of_the_front_is_not_worked_on(site) -> None:
    at = site(max_per_replica=1)
    at.add_model("a", seconds=1.0)
    url, body = at.url + "/invocations", records_body()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(httpx.post, url, json=body, timeout=20)
        time.sleep(0.3)
        # Its wait is over before it has a place; the one behind it has time.
        late = pool.submit(httpx.post, url, json=body, timeout=20, headers={TIMEOUT: "500"})
        time.sleep(0.1)
        patient = pool.submit(httpx.post, url, json=body, timeout=20, headers={TIMEOUT: "10000"})
        assert first.result().status_code == patient.result().status_code == 200
        assert "500 ms had passed before the model was asked" in assert_problem(late.result(), 504)["detail"]
    counts = httpx.get(f"{at.url}/metrics").text
    assert 'mlcluster_rows_total{model="demo",replica="",version="3"} 2.0' in counts


@pytest.mark.slow
def test_in_the_waiting_room_a_request_waits_no_longer_than_it_will(site) -> None:
    at = site(room_seconds=3.0)
    started = time.perf_counter()
    assert_problem(httpx.post(at.url, headers={TIMEOUT: "200"}), 504)
    assert 0.15 < time.perf_counter() - started < 1.5
