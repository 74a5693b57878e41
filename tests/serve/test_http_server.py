"""A replica's own server over a real socket: requests whole and in pieces, one after another and many at once."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest
import uvicorn

from mlcluster.serve import Predictor, RequestLimits, build_app
from mlcluster.serve.http_server import server_config
from mlcluster.serve.openapi import infer_example
from mlcluster.serve.short_way.path import FastPath
from tests.registry.bundles import sample_bundle
from tests.serve.conftest import MemoryRecords

INFER = "/v2/models/demo/infer"
BODY = json.dumps(infer_example(Predictor(sample_bundle()))).encode()
STALL_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Running:
    port: int
    by_asgi: list[str]
    """Paths of requests that uvicorn handed on."""
    records: MemoryRecords

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    records, by_asgi = MemoryRecords(), []
    limits = RequestLimits(body_timeout_seconds=STALL_SECONDS)
    app = build_app(Predictor(sample_bundle()), record=records, limits=limits)
    assert isinstance(app, FastPath)
    inner = FastPath.__call__

    class Seen(FastPath):
        async def __call__(self, scope, receive, send) -> None:
            if scope["type"] == "http":
                by_asgi.append(scope["path"])
            await inner(self, scope, receive, send)

    app.__class__ = Seen
    with serving(server_config(app, host="127.0.0.1", port=0, log_level="error")) as url:
        yield Running(port=int(url.rpartition(":")[2]), by_asgi=by_asgi, records=records)
    assert records.is_closed


@contextmanager
def serving(config: uvicorn.Config) -> Iterator[str]:
    """The URL of a server that runs meanwhile."""
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(autouse=True)
def _forget(running: Running) -> None:
    running.by_asgi.clear()
    running.records.records.clear()


def request(body: bytes = BODY, *, path: str = INFER, headers: str = "", version: str = "1.1") -> bytes:
    head = f"POST {path} HTTP/{version}\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return (head + headers + "\r\n").encode() + body


def answers(connection: socket.socket, count: int) -> list[tuple[int, dict[str, str], bytes]]:
    """Status, headers and body of the next responses."""
    found, data = [], b""
    while len(found) < count:
        head, separator, rest = data.partition(b"\r\n\r\n")
        if separator:
            lines = head.decode().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
            length = int(headers["content-length"])
            if len(rest) >= length:
                found.append((int(lines[0].split()[1]), headers, rest[:length]))
                data = rest[length:]
                continue
        more = connection.recv(65536)
        assert more, data
        data += more
    assert data == b""
    return found


def test_a_whole_request_is_answered_before_uvicorn_hears_of_it(running: Running) -> None:
    with running.connect() as connection:
        for _ in range(3):
            connection.sendall(request(headers="x-request-id: mine\r\n"))
            ((status, headers, body),) = answers(connection, 1)
            assert (status, headers["content-type"], headers["x-request-id"]) == (200, "application/json", "mine")
            assert json.loads(body)["parameters"]["prediction_id"] == headers["x-prediction-id"]
            assert "date" in headers
    assert running.by_asgi == []
    assert len(running.records.records) == 3
    text = httpx.get(f"{running.url}/metrics").text
    assert (
        'mlcluster_requests_total{model="demo",replica="",route="/v2/models/{name}/infer",status="200",version="3"}'
        in text
    )


def test_a_refusal_is_that_of_the_application(running: Running) -> None:
    with running.connect() as connection:
        connection.sendall(request(BODY.replace(b'"age"', b'"agee"')))
        ((status, headers, body),) = answers(connection, 1)
        assert (status, headers["content-type"]) == (422, "application/problem+json")
        assert json.loads(body)["field"] == "agee"
        connection.sendall(request())  # the connection goes on
        assert answers(connection, 1)[0][0] == 200
    assert running.by_asgi == [INFER]


@pytest.mark.parametrize("pieces", [2, 5, 40])
def test_a_request_in_pieces_is_answered(running: Running, pieces: int) -> None:
    whole = request()
    step = len(whole) // pieces + 1
    with running.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(2):
            for at in range(0, len(whole), step):
                connection.sendall(whole[at : at + step])
                time.sleep(0.005)
            assert answers(connection, 1)[0][0] == 200
    assert len(running.records.records) == 2


def test_requests_in_a_row_are_answered_in_their_order(running: Running) -> None:
    wrong, other = request(b"[]"), b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n"
    with running.connect() as connection:
        connection.sendall(request() + request() + wrong + request() + other + request())
        found = answers(connection, 6)
    assert [status for status, _, _ in found] == [200, 200, 400, 200, 200, 200]
    assert json.loads(found[4][2]) == {"ready": True}
    assert len(running.records.records) == 4


def test_what_uvicorn_minds_is_left_to_it(running: Running) -> None:
    with running.connect() as connection:
        connection.sendall(request(version="1.0"))
        assert connection.makefile("rb").read().startswith(b"HTTP/1.1 200 OK\r\n"), "read to the end: it was closed"
    with running.connect() as connection:
        connection.sendall(request(headers="connection: close\r\n"))
        assert b"connection: close" in connection.makefile("rb").read()
    head, _, body = request(headers="expect: 100-continue\r\n").partition(b"\r\n\r\n")
    with running.connect() as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(body)
        assert answers(connection, 1)[0][0] == 200
    with running.connect() as connection:
        chunked = (
            f"POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n"
        )
        connection.sendall(f"{chunked}\r\n{len(BODY):x}\r\n".encode() + BODY + b"\r\n0\r\n\r\n")
        assert answers(connection, 1)[0][0] == 200
    assert len(running.by_asgi) == 4


def test_an_upload_that_stalls_is_closed_while_others_are_answered(running: Running) -> None:
    whole = request()
    with running.connect() as stalled, running.connect() as silent, running.connect() as other:
        started = time.monotonic()
        stalled.sendall(whole[:-5])
        silent.sendall(whole[: whole.index(b"\r\n\r\n") + 4])
        while time.monotonic() < started + STALL_SECONDS / 2:
            other.sendall(request())
            assert answers(other, 1)[0][0] == 200
        for connection in (stalled, silent):
            ((status, headers, _),) = answers(connection, 1)
            assert (status, headers["connection"]) == (408, "close")
        assert time.monotonic() - started < STALL_SECONDS + 5


def test_garbage_is_answered_400_and_closed(running: Running) -> None:
    with running.connect() as connection:
        connection.sendall(b"POST " + INFER.encode() + b" HTTP/1.1\r\nno header\r\n\r\n")
        assert connection.makefile("rb").read().startswith(b"HTTP/1.1 400")
    with running.connect() as connection:
        connection.sendall(request())
        assert answers(connection, 1)[0][0] == 200


def test_many_connections_at_once_each_get_their_own_answer(running: Running) -> None:
    def ask(index: int) -> None:
        document = json.loads(BODY) | {"id": f"request-{index}"}
        with httpx.Client(base_url=running.url) as client:
            for _ in range(5):
                answer = client.post(INFER, json=document)
                assert answer.json()["id"] == f"request-{index}"
                done.append(answer.headers["x-prediction-id"])

    done: list[str] = []
    threads = [threading.Thread(target=ask, args=(index,)) for index in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(done)) == 80
    assert {record.id for record in running.records.records} == set(done)


def test_with_a_secret_it_answers_only_those_who_bear_it() -> None:
    app = build_app(Predictor(sample_bundle()), record=MemoryRecords())
    config = server_config(app, front_secret="between-two", host="127.0.0.1", port=0, log_level="error")
    with serving(config) as url, httpx.Client(base_url=url) as client:
        for headers in ({}, {"x-mlcluster-front": "guessed"}, {"x-mlcluster-front": ""}):
            refused = client.post(INFER, content=BODY, headers=headers)
            assert refused.status_code == 401
            assert refused.json()["detail"].startswith("This is a replica's own port")
            assert client.get("/v2/health/ready", headers=headers).status_code == 401
        known = {"x-mlcluster-front": "between-two"}
        assert client.post(INFER, content=BODY, headers=known).status_code == 200
        assert client.get("/v2/health/ready", headers=known).status_code == 200
