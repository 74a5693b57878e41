"""W3C Trace Context, in a replica and at the front door: one set of cases for both."""

from __future__ import annotations

import logging
import re
from typing import Any

import httpx
import pytest

from mlcluster.serve import Predictor, build_app
from mlcluster.serve.tracing import RequestIds, this_hop
from tests.serve.app_client import AppClient
from tests.serve.front_site import site
from tests.serve.test_http_app import INFER, assert_problem, records_body

__all__ = ["site"]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{PARENT}-01"
HOP = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[01]")
KEPT = [VALID, f"00-{TRACE}-{PARENT}-00", f"cc-{TRACE}-{PARENT}-01", f"01-{TRACE}-{PARENT}-01-what-the-future-will-be"]
REPLACED = [
    "",
    "x",
    f"ff-{TRACE}-{PARENT}-01",
    f"00-{'0' * 32}-{PARENT}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE.upper()}-{PARENT}-01",
    f"00-{TRACE}-{PARENT}-1",
    f"00-{TRACE}-{PARENT}-01-more",
    f"01-{TRACE}-{PARENT}-01.more",
    f"00-{TRACE[1:]}-{PARENT}-01",
    f"00_{TRACE}_{PARENT}_01",
    f"{VALID},{VALID}",
]


@pytest.mark.parametrize("sent", KEPT)
def test_a_valid_trace_goes_on_with_a_parent_of_this_hop(sent: str) -> None:
    hop = this_hop(sent.encode()).decode()
    assert HOP.fullmatch(hop)
    assert hop[3:35] == TRACE
    assert hop[36:52] != PARENT
    assert hop[53:] == sent[53:55]
    assert this_hop(sent.encode()).decode() != hop


@pytest.mark.parametrize("sent", [None, *REPLACED])
def test_a_malformed_one_is_replaced(sent: str | None) -> None:
    hop = this_hop(None if sent is None else sent.encode()).decode()
    assert HOP.fullmatch(hop)
    assert hop[3:35] != TRACE


def test_a_flag_that_is_not_known_is_not_passed_on() -> None:
    assert this_hop(f"00-{TRACE}-{PARENT}-ff".encode()).endswith(b"-01")
    assert this_hop(f"00-{TRACE}-{PARENT}-fe".encode()).endswith(b"-00")


@pytest.mark.parametrize("careful", [False, True])
def test_answer_and_record_bear_the_trace_and_the_id(client: AppClient, records: Any, careful: bool) -> None:
    headers = {"traceparent": VALID, "tracestate": "a=1", "x-request-id": "mine"}
    headers |= {"content-encoding": "identity"} if careful else {}
    response = client.post("/invocations", json=records_body(), headers=headers)
    assert response.headers["traceparent"][:36] == VALID[:36]
    assert response.headers["x-request-id"] == "mine"
    (record,) = records.records
    assert (record.request_id, record.trace_id) == ("mine", TRACE)


def test_a_refusal_names_both_in_its_body(client: AppClient) -> None:
    headers = {"traceparent": VALID, "x-request-id": "mine"}
    refused = [
        assert_problem(client.post("/invocations", json={}, headers=headers), 400),
        assert_problem(client.get("/nowhere", headers=headers), 404),
        assert_problem(client.get(INFER, headers=headers), 405),
    ]
    assert all((body["request_id"], body["trace_id"]) == ("mine", TRACE) for body in refused)
    response = client.post("/invocations", json={})
    assert response.json()["trace_id"] == response.headers["traceparent"][3:35]
    assert response.json()["request_id"] == response.headers["x-request-id"]


def test_a_trace_that_is_given_twice_is_replaced(client: AppClient) -> None:
    twice = [("traceparent", VALID), ("traceparent", VALID), ("content-type", "application/json")]
    response = client.post("/invocations", json=records_body(), headers=twice)
    assert response.status_code == 200
    assert response.headers["traceparent"][3:35] != TRACE


def test_the_log_of_a_fault_names_both(
    predictor: Predictor, records: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = AppClient(build_app(predictor, record=records))
    monkeypatch.setattr(Predictor, "predict", lambda self, table: 1 / 0)
    monkeypatch.setattr(Predictor, "predict_matrix", lambda self, matrix: 1 / 0)
    with caplog.at_level(logging.ERROR):
        headers = {"traceparent": VALID, "x-request-id": "mine"}
        assert client.post("/invocations", json=records_body(), headers=headers).status_code == 500
    assert f"request_id=mine trace_id={TRACE}" in caplog.text
    client.close()


def test_ids_are_never_given_twice() -> None:
    drawn = [RequestIds.of({}) for _ in range(1_000)]
    assert len({ids.request_id for ids in drawn}) == len({ids.traceparent[3:35] for ids in drawn}) == 1_000


@pytest.mark.slow
def test_the_front_has_the_same_rules_and_the_replica_gets_what_the_client_is_told(site) -> None:
    at = site()
    at.add("a", seconds=0.0)
    with httpx.Client() as client:
        for sent in (*KEPT, *REPLACED):
            answer = client.post(at.url, headers={"traceparent": sent, "tracestate": "a=1"})
            hop = answer.headers["traceparent"]
            assert HOP.fullmatch(hop), sent
            assert (hop[3:35] == TRACE) == (sent in KEPT), sent
            assert (hop[53:] == "01") == (sent in KEPT and sent[53:55] == "01"), sent
            assert hop[36:52] != PARENT
            assert answer.headers["x-seen-traceparent"] == hop
            assert answer.headers["x-seen-tracestate"] == ("a=1" if sent in KEPT else "")
        twice = client.post(at.url, headers=[("traceparent", VALID), ("traceparent", VALID)])
        assert twice.headers["traceparent"][3:35] != TRACE
        assert client.post(at.url).headers["traceparent"] != client.post(at.url).headers["traceparent"]


@pytest.mark.slow
def test_the_front_names_both_in_what_it_refuses(site) -> None:
    at = site(max_body_bytes=10)
    at.add("a", seconds=0.5)
    headers = {"traceparent": VALID, "x-request-id": "mine", "x-request-timeout-ms": "50"}
    for body, status in ((b"x" * 11, 413), (b"{}", 504)):
        answer = httpx.post(at.url, content=body, headers=headers)
        members = assert_problem(answer, status)
        assert (members["request_id"], members["trace_id"]) == ("mine", TRACE)
        assert answer.headers["traceparent"][3:35] == TRACE
