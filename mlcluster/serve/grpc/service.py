"""The Open Inference Protocol over gRPC, for one replica: the answers, limits, counts, records and words of HTTP."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from mlcluster import __version__
from mlcluster.serve.answering import Received
from mlcluster.serve.careful import CarefulAnswers
from mlcluster.serve.deadline import Deadline
from mlcluster.serve.front_only import NOT_THE_FRONT, bears_secret
from mlcluster.serve.grpc.messages import MESSAGES, SERVICE
from mlcluster.serve.grpc.requests import model_infer_response, parse_model_infer
from mlcluster.serve.many_models import OtherApps
from mlcluster.serve.problem import RequestError, malformed
from mlcluster.serve.reception import FAULT, busy
from mlcluster.serve.tracing import RequestIds

log = logging.getLogger(__name__)

_CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""Of refusals by their status over HTTP; every other one is an invalid argument."""
_INLINE_BYTES = 64 * 1024
_CANCELLED = 499
"""How a call that its client gave up is counted, as over HTTP."""
Metadata = tuple[tuple[str, str], ...]


class InferenceService:
    """The methods. For one event loop."""

    def __init__(self, careful: CarefulAnswers, others: OtherApps, *, front_secret: str | None) -> None:
        self._careful = careful
        self._others = others
        self._front_secret = front_secret

    def handler(self) -> grpc.GenericRpcHandler:
        """For a server."""
        methods: dict[str, Callable[[Any], Awaitable[bytes]]] = {
            "ServerLive": _server_live,
            "ServerReady": _server_ready,
            "ServerMetadata": _server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
        }
        calls = {name: self._called(name, _of_message(name, answer)) for name, answer in methods.items()}
        calls["ModelInfer"] = self._called("ModelInfer", self._model_infer)
        handlers = {name: grpc.unary_unary_rpc_method_handler(call) for name, call in calls.items()}
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _called(
        self, name: str, answer: Callable[[_Call], Awaitable[bytes]]
    ) -> Callable[[bytes, Any], Awaitable[bytes]]:
        """A method around `answer`: it counts, names, and says what was refused as gRPC does."""
        route = f"/{SERVICE}/{name}"

        async def call(body: bytes, context: Any) -> bytes:
            asked = _Call(body, context)
            status = _CANCELLED
            try:
                self._check_front(asked)
                content = await answer(asked)
                status = 200
            except RequestError as error:
                status = error.status
                await self._refuse(asked, error)
            except Exception:
                status = 500
                log.exception("failed to answer method=%s %s", name, asked.ids.members)
                await self._refuse(asked, RequestError(500, FAULT))
            finally:
                self._careful.metrics.count_request(route, status, time.perf_counter() - asked.started)
            return content

        return call

    async def _refuse(self, asked: _Call, error: RequestError) -> None:
        """Ends the call, with a status that says what was wrong."""
        detail = error.detail.encode("utf-8", "replace").decode()
        code = _CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT)
        retry = tuple((name, value) for name, value in error.headers.items() if name == "retry-after")
        await asked.context.abort(code, detail, (*self._names(asked), *retry))

    def _check_front(self, asked: _Call) -> None:
        if self._front_secret is not None and not bears_secret(asked.headers, self._front_secret):
            raise NOT_THE_FRONT

    def _names(self, asked: _Call) -> Metadata:
        if self._front_secret is not None:
            return ()
        return tuple((name.decode(), value.decode()) for name, value in asked.ids.headers)

    @asynccontextmanager
    async def _meant(self, name: str, version: str) -> AsyncIterator[CarefulAnswers]:
        """The answers of the model that is named, loaded if need be; no version is any.

        Raises:
            RequestError: 404 where none of that name is served, 503 where it cannot be loaded.
        """
        served = self._others.models.named(name, version or None)
        if served is None or served is self._others.models.own:
            if served is None:
                self._careful.check_model(name, version or None)
            yield self._careful
        else:
            async with self._others.lent(served) as app:
                yield app.by_columns

    async def _model_ready(self, message: Any) -> bytes:
        served = self._others.models.named(message.name, message.version or None)
        return _encoded("ModelReadyResponse", ready=served is not None)

    async def _model_metadata(self, message: Any) -> bytes:
        async with self._meant(message.name, message.version) as careful:
            members = {name: value for name, value in careful.metadata().items() if name != "properties"}
            return _encoded("ModelMetadataResponse", **members)

    async def _model_infer(self, asked: _Call) -> bytes:
        in_flight = self._careful.in_flight
        if not in_flight.has_room:
            raise busy()
        in_flight.enter()
        try:
            message = _decoded("ModelInferRequest", asked.body)
            async with self._meant(message.model_name, message.model_version) as careful:
                if len(asked.body) > _INLINE_BYTES:
                    content, prediction_id = await asyncio.to_thread(self._infer_now, asked, message, careful)
                else:
                    content, prediction_id = self._infer_now(asked, message, careful)
        finally:
            in_flight.leave()
        # With the answer's end: a message of its own for what stands before it costs as much as the model.
        asked.context.set_trailing_metadata((("x-prediction-id", prediction_id), *self._names(asked)))
        return content

    def _infer_now(self, asked: _Call, message: Any, careful: CarefulAnswers) -> tuple[bytes, str]:
        deadline = asked.deadline(careful.limits.timeout_seconds)
        request = parse_model_infer(message, careful)
        if request.timeout_seconds is not None:
            deadline = deadline.within(request.timeout_seconds)
        received = Received(body=asked.body, started=asked.started, ids=asked.ids)
        answer = careful.answer(request.columns, received, deadline, is_typed=True)
        content = model_infer_response(
            careful.identity,
            request,
            careful.values(answer),
            num_rows=answer.num_rows,
            prediction_id=answer.prediction_id,
            is_raw=bool(message.raw_input_contents),
        )
        return content, answer.prediction_id


class _Call:
    """One call, as it came."""

    def __init__(self, body: bytes, context: Any) -> None:
        self.body = body
        self.context = context
        self.started = time.perf_counter()
        self.headers = _headers(context.invocation_metadata())
        self.ids = RequestIds.of(self.headers)

    def deadline(self, default_seconds: float) -> Deadline:
        """Of the headers that HTTP has too, and of gRPC's own timeout, which the front has passed on as it was."""
        found = Deadline.of(self.headers, started=self.started, default_seconds=default_seconds)
        remaining = self.context.time_remaining()
        return found if remaining is None else found.within(remaining)


def _headers(metadata: Any) -> Mapping[bytes, bytes]:
    """By name; one that is given twice, and no text, is none."""
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in metadata or () if isinstance(value, str)]
    names = [name for name, _ in pairs]
    return {name: value for name, value in pairs if names.count(name) == 1}


def _decoded(name: str, body: bytes) -> Any:
    try:
        return MESSAGES[name].FromString(body)
    except DecodeError as error:
        raise malformed(f"The message is no {name} ({error}); make it from the protocol's .proto.") from error


def _encoded(name: str, /, **members: Any) -> bytes:
    return bytes(MESSAGES[name](**members).SerializeToString())


def _of_message(name: str, answer: Callable[[Any], Awaitable[bytes]]) -> Callable[[_Call], Awaitable[bytes]]:
    async def call(asked: _Call) -> bytes:
        return await answer(_decoded(f"{name}Request", asked.body))

    return call


async def _server_live(_: Any) -> bytes:
    return _encoded("ServerLiveResponse", live=True)


async def _server_ready(_: Any) -> bytes:
    return _encoded("ServerReadyResponse", ready=True)


async def _server_metadata(_: Any) -> bytes:
    return _encoded("ServerMetadataResponse", name="mlcluster", version=__version__, extensions=[])
