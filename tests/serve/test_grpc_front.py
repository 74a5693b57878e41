"""gRPC through the front door: keys, TLS, names, and a replica that dies, with a real HAProxy and real clients."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from mlcluster.cluster.keys import write_tls
from mlcluster.errors import ClusterError
from mlcluster.serve.front.api_keys import ApiKeys
from mlcluster.serve.front.door import FrontDoor
from mlcluster.serve.front.plan import FrontAccess
from mlcluster.serve.grpc.messages import MESSAGES, SERVICE
from tests.serve.front_site import Site, site
from tests.serve.test_grpc import complete, request
from tests.serve.test_tracing import TRACE, VALID

__all__ = ["site"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
BODY = request(complete(9)).SerializeToString()


@contextmanager
def channel_to(at: Site, credentials: grpc.ChannelCredentials | None = None) -> Iterator[grpc.Channel]:
    target = str(at.plan.grpc)
    opened = grpc.insecure_channel(target) if credentials is None else grpc.secure_channel(target, credentials)
    with opened as channel:
        yield channel


def infer(channel: grpc.Channel, method: str = "ModelInfer", body: bytes = BODY, **options: Any) -> Any:
    answer, call = channel.unary_unary(f"/{SERVICE}/{method}").with_call(body, timeout=20, **options)
    return MESSAGES[f"{method}Response"].FromString(answer), dict((*call.initial_metadata(), *call.trailing_metadata()))


def refused(channel: grpc.Channel, **options: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        infer(channel, **options)
    return caught.value


def test_calls_are_answered_named_and_traced(site) -> None:
    at = site(grpc=True)
    at.add_grpc("a")
    with channel_to(at) as channel:
        answer, metadata = infer(channel, metadata=(("traceparent", VALID), ("x-request-id", "mine")))
        assert answer.parameters["prediction_id"].string_param == metadata["x-prediction-id"]
        assert metadata["x-request-id"] == "mine"
        assert metadata["traceparent"][:36] == VALID[:36]
        assert infer(channel, metadata=(("traceparent", "x"),))[1]["traceparent"][3:35] != TRACE
        assert infer(channel, "ModelReady", MESSAGES["ModelReadyRequest"](name="demo").SerializeToString())[0].ready
        error = refused(channel, body=request(complete(9), model_name="other").SerializeToString())
        assert (error.code(), "model other" in error.details()) == (grpc.StatusCode.NOT_FOUND, True)
    before = at.door.replicas()
    at.door.measure()
    assert before == ["a"]


def test_a_prediction_needs_a_key_and_health_does_not(site) -> None:
    keys, secret = ApiKeys().with_new("anna", per_second=None, per_day=4)
    at = site(grpc=True, access=FrontAccess(keys=keys.keys))
    at.add_grpc("a")
    with channel_to(at) as channel:
        for metadata in ((), (("authorization", f"Bearer {secret}x"),), (("x-api-key", "mlc_"),)):
            error = refused(channel, metadata=metadata)
            assert (error.code(), "bears no key" in error.details()) == (grpc.StatusCode.UNAUTHENTICATED, True)
        assert infer(channel, "ServerLive", b"")[0].live
        for metadata in ((("authorization", f"Bearer {secret}"),), (("x-api-key", secret),)) * 2:
            assert infer(channel, metadata=metadata)[0].model_name == "demo"
        error = refused(channel, metadata=(("x-api-key", secret),))
        assert (error.code(), "last 24 hours" in error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)


def test_with_a_certificate_it_speaks_tls_and_http_2_alone(site, tmp_path: Path) -> None:
    write_tls(tmp_path / "tls", ["127.0.0.1"])
    certificate = "".join((tmp_path / "tls" / name).read_text() for name in ("node.crt", "node.key"))
    at = site(grpc=True, access=FrontAccess(certificate=certificate))
    at.add_grpc("a")
    trusted = grpc.ssl_channel_credentials((tmp_path / "tls" / "ca.crt").read_bytes())
    with channel_to(at, trusted) as channel:
        assert infer(channel)[0].model_name == "demo"
    with channel_to(at) as channel:
        assert refused(channel).code() is grpc.StatusCode.UNAVAILABLE


def test_a_replica_that_dies_costs_no_call(site) -> None:
    at = site(grpc=True)
    at.add_grpc("a", seconds=0.2)
    at.add_grpc("b", seconds=0.2)
    answered: list[str] = []
    failed: list[str] = []
    is_over = threading.Event()

    def keep_asking(channel: grpc.Channel) -> None:
        while not is_over.is_set():
            try:
                infer(channel)
                answered.append("ok")
            except grpc.RpcError as error:
                failed.append(f"{error.code()} {error.details()}")

    with channel_to(at) as channel:
        askers = [threading.Thread(target=keep_asking, args=(channel,)) for _ in range(4)]
        for asker in askers:
            asker.start()
        time.sleep(1)
        at.kill("a grpc")
        time.sleep(2)
        is_over.set()
        for asker in askers:
            asker.join()
    assert failed == []
    assert len(answered) > 15


def test_where_no_replica_is_a_call_is_unavailable_and_a_slow_one_too_late(site) -> None:
    at = site(grpc=True, answer_seconds=1.0)
    with channel_to(at) as channel:
        error = refused(channel)
        assert (error.code(), "No replica can take" in error.details()) == (grpc.StatusCode.UNAVAILABLE, True)
        at.add_grpc("a", seconds=1.5)
        error = refused(channel)
        assert (error.code(), "did not answer in time" in error.details()) == (grpc.StatusCode.DEADLINE_EXCEEDED, True)
        error = refused(channel, metadata=(("x-request-timeout-ms", "100"),))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_the_port_opens_and_closes_with_the_plan_and_a_taken_one_is_named(site) -> None:
    at = site(grpc=True)
    at.add_grpc("a")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        from dataclasses import replace

        port = taken.getsockname()[1]
        with pytest.raises(ClusterError, match=rf"serve\.grpc_port = {port} on 127\.0\.0\.1 cannot be opened"):
            at.door.reopen(replace(at.plan, grpc=replace(at.plan.grpc, port=port)))
        with channel_to(at) as channel:
            assert infer(channel)[0].model_name == "demo"
    at.door.reopen(replace(at.plan, grpc=None))
    deadline = time.monotonic() + 5
    while _is_open(at.plan.grpc.port) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _is_open(at.plan.grpc.port)
    assert isinstance(at.door, FrontDoor)


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
