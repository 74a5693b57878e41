"""The short way for predictions: one dispatch, one read, one answer, on the server's own interface (ASGI).

It answers requests that are plainly valid, and hands every other one, its body included, to the application around it,
which knows how to refuse. Both ways share their limits, counts, ids and records, and give the same answers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Generator, Mapping
from types import CoroutineType, coroutine
from typing import Any, cast

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlcluster.serve.answering import Answering, Received
from mlcluster.serve.fast_requests import FastReader, FastRequest
from mlcluster.serve.inference_protocol import OutputRequest, infer_response
from mlcluster.serve.metrics import ServingMetrics
from mlcluster.serve.predictor import Prediction
from mlcluster.serve.reception import DEADLINE_KEY, REQUEST_ID, InFlight, plain_id
from mlcluster.serve.row_encoder import RowEncoder
from mlcluster.serve.tensors import input_specs, output_specs

log = logging.getLogger(__name__)

_MAX_BODY_BYTES = 64 * 1024
"""Answering this much takes a few milliseconds; more would hold up the requests beside it."""
_PLAIN_TYPES = frozenset({None, b"application/json", b"application/octet-stream", b"application/x-www-form-urlencoded"})
_JSON_TYPES = frozenset({b"application/json"})
_JSON, _OCTETS = (b"content-type", b"application/json"), (b"content-type", b"application/octet-stream")
_HEADER_LENGTH = b"inference-header-content-length"
_Headers = Mapping[bytes, bytes]
_Answer = tuple[bytes, str, int | None]
_Respond = Callable[[bytes, _Headers, float], _Answer | None]


class FastPath:
    """An ASGI application around `careful`."""

    def __init__(
        self, careful: ASGIApp, answering: Answering, *, in_flight: InFlight, metrics: ServingMetrics, echo_id: bool
    ) -> None:
        predictor = answering.predictor
        self._careful = careful
        self._answering = answering
        self._in_flight = in_flight
        self._metrics = metrics
        self._echo_id = echo_id
        self._max_body_bytes = min(_MAX_BODY_BYTES, in_flight.limits.max_body_bytes)
        self._encoder = RowEncoder.of(predictor.schema, predictor.bundle.transform)
        self._reader = FastReader(input_specs(predictor.schema), max_rows=in_flight.limits.max_rows)
        specs = output_specs(predictor.schema)
        self._outputs = {
            binary: tuple(OutputRequest(spec=spec, binary=binary) for spec in specs) for binary in (False, True)
        }
        self._members = {"model_name": predictor.name, "model_version": predictor.version}
        self._routes = self._table() if self._encoder is not None else {}

    def _table(self) -> dict[str, tuple[str, frozenset[bytes | None], _Respond]]:
        """Template, media types and response by path."""
        name, version = self._members.values()
        versioned = "/v2/models/{name}/versions/{version}/infer"
        return {
            f"/v2/models/{name}/infer": ("/v2/models/{name}/infer", _PLAIN_TYPES, self._infer),
            f"/v2/models/{name}/versions/{version}/infer": (versioned, _PLAIN_TYPES, self._infer),
            "/invocations": ("/invocations", _JSON_TYPES, self._invoke),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if route is None:
            await self._careful(scope, receive, send)
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        if (
            len(headers) != len(scope["headers"])  # one that is given twice is for the careful to judge
            or headers.get(b"content-type") not in route[1]
            or b"content-encoding" in headers
            or not self._is_short(headers.get(b"content-length", b"none"))
            or not self._in_flight.has_room
        ):
            await self._careful(scope, receive, send)
            return
        message = await self._first_message(scope, receive)
        answer = None
        if message is not None and message["type"] == "http.request" and not message.get("more_body"):
            answer = self._answer(route[2], message.get("body", b""), headers, started)
        if answer is None:
            await self._careful(scope, _again(message, receive), send)
            return
        await self._send(answer, headers, send)
        self._metrics.count_request(route[0], 200, time.perf_counter() - started)

    async def _first_message(self, scope: Scope, receive: Receive) -> Message | None:
        """The body, or its first part; None when nothing comes in time, which the careful way says at once."""
        taking = receive()
        if not isinstance(taking, CoroutineType):
            return await taking
        try:
            waits_for = taking.send(None)
        except StopIteration as taken:  # it was there: no clock need be set
            return cast(Message, taken.value)
        deadline = asyncio.get_running_loop().time() + self._in_flight.limits.body_timeout_seconds
        self._in_flight.enter()
        try:
            async with asyncio.timeout_at(deadline):
                return cast(Message, await _resumed(taking, waits_for))
        except TimeoutError:
            scope[DEADLINE_KEY] = deadline
            return None
        finally:
            self._in_flight.leave()

    def _is_short(self, announced: bytes) -> bool:
        return announced.isdigit() and len(announced) < 7 and int(announced) <= self._max_body_bytes

    def _answer(self, respond: _Respond, body: bytes, headers: _Headers, started: float) -> _Answer | None:
        try:
            return respond(body, headers, started)
        except Exception:
            # The careful way meets it again, and has the words and the log for it.
            log.debug("the short way failed", exc_info=True)
            return None

    def _infer(self, body: bytes, headers: _Headers, started: float) -> _Answer | None:
        request = self._reader.infer(body, headers.get(_HEADER_LENGTH))
        settled = None if request is None else self._settled(request, body, started)
        if request is None or settled is None:
            return None
        prediction, prediction_id = settled
        members: dict[str, object] = dict(self._members)
        if request.id is not None:
            members["id"] = request.id
        members["parameters"] = {"prediction_id": prediction_id}
        outputs = self._outputs[request.is_binary]
        values = self._answering.values(prediction)
        content, document_length = infer_response(members, outputs, values, request.num_rows)
        return content, prediction_id, document_length

    def _invoke(self, body: bytes, _: _Headers, started: float) -> _Answer | None:
        request = self._reader.invocation(body)
        settled = None if request is None else self._settled(request, body, started)
        if settled is None:
            return None
        prediction, prediction_id = settled
        metadata = {"prediction_id": prediction_id, **self._members}
        return orjson.dumps({"predictions": prediction.labels, "metadata": metadata}), prediction_id, None

    def _settled(self, request: FastRequest, body: bytes, started: float) -> tuple[Prediction, str] | None:
        assert self._encoder is not None
        matrix = self._encoder.encode(request.columns, request.num_rows)
        if matrix is None:
            return None
        prediction = self._answering.predictor.predict_matrix(matrix)
        received = Received(body=body, started=started)
        return prediction, self._answering.settle(request.columns, prediction, received)

    async def _send(self, answer: _Answer, headers: _Headers, send: Send) -> None:
        content, prediction_id, document_length = answer
        sent = [
            _JSON if document_length is None else _OCTETS,
            (b"content-length", b"%d" % len(content)),
            (b"x-prediction-id", prediction_id.encode("ascii")),
        ]
        if document_length is not None:
            sent.append((_HEADER_LENGTH, b"%d" % document_length))
        if self._echo_id:
            sent.append((REQUEST_ID, plain_id(headers.get(REQUEST_ID))))
        await send({"type": "http.response.start", "status": 200, "headers": sent})
        await send({"type": "http.response.body", "body": content})


@coroutine
def _resumed(started: CoroutineType[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    """Awaits a coroutine that has run until it waits for something."""
    try:
        while True:
            try:
                sent = yield waits_for
            except BaseException as error:  # as `await` does: what is thrown at the task reaches what it waits for
                waits_for = started.throw(error)
            else:
                waits_for = started.send(sent)
    except StopIteration as ended:
        return ended.value


def _again(message: Message | None, receive: Receive) -> Receive:
    """`receive`, with a message before the others that was taken already."""
    if message is None:
        return receive
    taken = [message]

    async def replayed() -> Message:
        return taken.pop() if taken else await receive()

    return replayed
