"""The HTTP face of one `Predictor`: the Open Inference Protocol, MLflow's scoring protocol, and pages for people.

Pure: no Ray, no global state, so that a test drives it in milliseconds and any ASGI server can run it. Every answer to
a prediction bears an id; every refusal is a 4xx that names the field.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from mlcluster import __version__
from mlcluster.serve import arrow_bodies
from mlcluster.serve.answering import Answering, Received
from mlcluster.serve.careful import Answer, CarefulAnswers
from mlcluster.serve.deadline import Deadline
from mlcluster.serve.fast_answers import FastAnswers
from mlcluster.serve.fast_path import FastPath
from mlcluster.serve.feedback import FeedbackLog
from mlcluster.serve.feedback_route import feedback_endpoint
from mlcluster.serve.home_page import home_page
from mlcluster.serve.inference_protocol import (
    HEADER_LENGTH,
    InferRequest,
    infer_response,
    parse_infer_request,
    requested_outputs,
)
from mlcluster.serve.invocations import Columns, parse_csv_invocation, parse_json_invocation
from mlcluster.serve.metrics import CONTENT_TYPE, Gauges, Replica, ServingMetrics
from mlcluster.serve.negotiation import wants_arrow
from mlcluster.serve.openapi import openapi_document
from mlcluster.serve.predictor import Predictor
from mlcluster.serve.problem import RequestError
from mlcluster.serve.readiness import Readiness
from mlcluster.serve.reception import (
    IDS_KEY,
    ROUTE_KEY,
    InFlight,
    Reception,
    RequestLimits,
    media_type,
    read_body,
    refuse,
    refuse_route,
)
from mlcluster.serve.records import RecordSink
from mlcluster.serve.tensors import TensorSpec

_JSON = "application/json"
_OCTETS = "application/octet-stream"
_ARROW_TYPES = (arrow_bodies.STREAM, arrow_bodies.FILE)
_INFER_TYPES = ("", _JSON, _OCTETS, "application/x-www-form-urlencoded", *_ARROW_TYPES)
"""`curl -d` calls its JSON a form, and Triton's client gives no type at all."""
_INVOCATION_TYPES = (_JSON, "text/csv", *_ARROW_TYPES)
# Reading and answering this much takes a few milliseconds; more would hold up the requests beside it.
_INLINE_BODY_BYTES = 64 * 1024
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """A request whose body has come."""

    received: Received
    deadline: Deadline
    media_type: str
    header_length: str | None
    wants_arrow: bool

    @property
    def is_arrow(self) -> bool:
        return self.media_type in _ARROW_TYPES


def build_app(
    predictor: Predictor,
    *,
    record: RecordSink,
    limits: RequestLimits | None = None,
    feedback: FeedbackLog | None = None,
    replica: Replica | None = None,
    echo_request_id: bool = True,
) -> FastPath:
    """The application that answers for `predictor`, and writes what it answered to `record`.

    Labels that come later go to `feedback`; without it there is no route for them. `replica` labels the metrics.
    `echo_request_id` is off behind a server that writes x-request-id and traceparent itself.
    """
    limits = limits or RequestLimits()
    in_flight = InFlight(limits)
    gauges = Gauges(num_in_flight=lambda: in_flight.count, num_lost=lambda: record.num_lost)
    metrics = ServingMetrics(
        model=predictor.name, version=predictor.version, replica=replica or Replica(), gauges=gauges
    )
    answering = Answering(predictor, record, metrics)
    careful = CarefulAnswers(answering, in_flight, metrics)
    routes = _Routes(careful)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        record.close()

    # The usual one makes a page that loads its script from a network of delivery, which a closed network has not.
    app = FastAPIOffline(title=predictor.name, version=__version__, redoc_url=None, lifespan=lifespan)
    document = openapi_document(predictor, server_version=__version__, takes_feedback=feedback is not None)
    app.openapi = lambda: document  # type: ignore[method-assign]  # the way that FastAPI documents
    table = routes.table()
    if feedback is not None:
        table.append(("/feedback", "POST", feedback_endpoint(predictor, feedback, limits)))
    for path, method, endpoint in table:
        app.router.add_route(path, _labelled(path, endpoint), methods=[method], include_in_schema=False)
    app.add_exception_handler(RequestError, refuse)
    app.add_exception_handler(HTTPException, refuse_route)
    app.add_middleware(Reception, metrics=metrics, in_flight=in_flight, echo_request_id=echo_request_id)
    app.add_middleware(Readiness)
    answers = FastAnswers(answering, in_flight=in_flight, metrics=metrics, echo_request_id=echo_request_id)
    return FastPath(app, answers, by_columns=careful)


class _Routes:
    """The endpoints, bound to what they answer from."""

    def __init__(self, careful: CarefulAnswers) -> None:
        self._careful = careful
        self._page = home_page(careful.answering.predictor)

    def table(self) -> list[tuple[str, str, Endpoint]]:
        """Path, method and endpoint of every route."""
        routes: list[tuple[str, str, Endpoint]] = [
            ("/", "GET", self._home),
            ("/v2", "GET", self._server_metadata),
            ("/v2/", "GET", self._server_metadata),
            ("/v2/health/live", "GET", self._live),
            ("/v2/health/ready", "GET", self._ready),
            ("/invocations", "POST", self._invocations),
            ("/ping", "GET", self._ping),
            ("/health", "GET", self._ping),
            ("/version", "GET", self._version),
            ("/metrics", "GET", self._metrics_text),
        ]
        for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            routes += [
                (path, "GET", self._model_metadata),
                (f"{path}/ready", "GET", self._model_ready),
                (f"{path}/infer", "POST", self._infer),
            ]
        return routes

    async def _home(self, _: Request) -> Response:
        return HTMLResponse(self._page.document, headers={"content-security-policy": self._page.policy})

    async def _server_metadata(self, _: Request) -> Response:
        return _json({"name": "mlcluster", "version": __version__, "extensions": ["binary_tensor_data"]})

    async def _live(self, _: Request) -> Response:
        return _json({"live": True})

    async def _ready(self, _: Request) -> Response:
        return _json({"ready": True})

    async def _ping(self, _: Request) -> Response:
        return Response("\n", media_type=_JSON)

    async def _version(self, _: Request) -> Response:
        return Response(__version__, media_type="text/plain")

    async def _metrics_text(self, _: Request) -> Response:
        return Response(self._careful.metrics.exposition(), headers={"content-type": CONTENT_TYPE})

    async def _model_metadata(self, request: Request) -> Response:
        self._check_model(request)
        return _json(self._careful.metadata())

    async def _model_ready(self, request: Request) -> Response:
        self._check_model(request)
        return _json({"name": request.path_params["name"], "ready": True})

    async def _infer(self, request: Request) -> Response:
        self._check_model(request)
        return await self._answered(request, _INFER_TYPES, self._infer_now)

    def _infer_now(self, asked: _Asked) -> Response:
        careful, deadline = self._careful, asked.deadline
        if asked.is_arrow:
            outputs = requested_outputs(None, careful.outputs, binary=False)
            parsed = InferRequest(id=None, columns=self._arrow_columns(asked), outputs=outputs, timeout_seconds=None)
        else:
            body = asked.received.body
            parsed = parse_infer_request(body, asked.header_length, careful.inputs, careful.outputs)
        if parsed.timeout_seconds is not None:
            deadline = deadline.within(parsed.timeout_seconds)
        answer = careful.answer(parsed.columns, asked.received, deadline, is_typed=asked.is_arrow)
        specs = [output.spec for output in parsed.outputs]
        if asked.wants_arrow:
            return self._arrow(answer, specs, {} if parsed.id is None else {"id": parsed.id})
        members: dict[str, Any] = dict(careful.identity)
        if parsed.id is not None:
            members["id"] = parsed.id
        members["parameters"] = {"prediction_id": answer.prediction_id}
        content, document_length = infer_response(members, parsed.outputs, careful.values(answer), answer.num_rows)
        headers = {"x-prediction-id": answer.prediction_id}
        if document_length is None:
            return Response(content, headers=headers, media_type=_JSON)
        return Response(content, headers=headers | {HEADER_LENGTH: str(document_length)}, media_type=_OCTETS)

    async def _invocations(self, request: Request) -> Response:
        return await self._answered(request, _INVOCATION_TYPES, self._invoke_now)

    def _invoke_now(self, asked: _Asked) -> Response:
        careful, body = self._careful, asked.received.body
        if asked.is_arrow:
            columns = self._arrow_columns(asked)
        elif asked.media_type == "text/csv":
            columns = parse_csv_invocation(body, careful.inputs)
        else:
            columns = parse_json_invocation(body, careful.names)
        answer = careful.answer(columns, asked.received, asked.deadline, is_typed=asked.is_arrow)
        if asked.wants_arrow:
            return self._arrow(answer, careful.outputs)
        metadata = {"prediction_id": answer.prediction_id, **careful.identity}
        members = {"predictions": answer.prediction.labels, "metadata": metadata}
        return _json(members, {"x-prediction-id": answer.prediction_id})

    def _arrow_columns(self, asked: _Asked) -> Columns:
        careful = self._careful
        body, kind = asked.received.body, asked.media_type
        return arrow_bodies.parse_arrow(body, kind, careful.limits, max_columns=careful.max_columns)

    def _arrow(self, answer: Answer, specs: Sequence[TensorSpec], more: Mapping[str, str] | None = None) -> Response:
        metadata = {"prediction_id": answer.prediction_id, **self._careful.identity, **(more or {})}
        content = arrow_bodies.arrow_stream(specs, self._careful.values(answer), metadata)
        return Response(content, headers={"x-prediction-id": answer.prediction_id}, media_type=arrow_bodies.STREAM)

    async def _answered(
        self, request: Request, allowed: tuple[str, ...], respond: Callable[[_Asked], Response]
    ) -> Response:
        limits, started = self._careful.limits, time.perf_counter()
        kind, is_arrow = media_type(request, allowed), wants_arrow(", ".join(request.headers.getlist("accept")))
        headers = dict(request.scope["headers"])
        deadline = Deadline.of(headers, started=started, default_seconds=limits.timeout_seconds)
        body = await read_body(request, limits)
        asked = _Asked(
            received=Received(body=body, started=started, ids=request.scope[IDS_KEY]),
            deadline=deadline,
            media_type=kind,
            header_length=request.headers.get(HEADER_LENGTH),
            wants_arrow=is_arrow,
        )
        # A short body of Arrow may become a long one.
        if len(body) > _INLINE_BODY_BYTES or kind in _ARROW_TYPES:
            return await asyncio.to_thread(respond, asked)
        return respond(asked)

    def _check_model(self, request: Request) -> None:
        self._careful.check_model(request.path_params["name"], request.path_params.get("version"))


def _labelled(path: str, endpoint: Endpoint) -> Endpoint:
    async def labelled(request: Request) -> Response:
        request.scope[ROUTE_KEY] = path
        return await endpoint(request)

    return labelled


def _json(members: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dumps(members, allow_nan=False), headers=dict(headers or {}), media_type=_JSON)
