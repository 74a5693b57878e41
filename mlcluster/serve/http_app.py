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
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp

from mlcluster import __version__
from mlcluster.serve.answering import Answering, Received
from mlcluster.serve.careful import CarefulAnswers
from mlcluster.serve.deadline import Deadline
from mlcluster.serve.fast_answers import FastAnswers
from mlcluster.serve.fast_path import FastPath
from mlcluster.serve.feedback import FeedbackLog
from mlcluster.serve.feedback_route import feedback_endpoint
from mlcluster.serve.home_page import home_page
from mlcluster.serve.inference_protocol import HEADER_LENGTH, infer_response, parse_infer_request
from mlcluster.serve.invocations import parse_csv_invocation, parse_json_invocation
from mlcluster.serve.json_body import parse_object, refuse_unknown
from mlcluster.serve.live_statistics import StatisticsBoard
from mlcluster.serve.many_models import ManyModels, OtherApps, no_others
from mlcluster.serve.metrics import CONTENT_TYPE, Gauges, MetricsBoard, Replica
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
from mlcluster.serve.statistics_route import statistics_endpoint

_JSON = "application/json"
_OCTETS = "application/octet-stream"
_INFER_TYPES = ("", _JSON, _OCTETS, "application/x-www-form-urlencoded")
"""`curl -d` calls its JSON a form, and Triton's client gives no type at all."""
_INVOCATION_TYPES = (_JSON, "text/csv")
_EXTENSIONS = ("binary_tensor_data", "model_repository")
# Reading and answering this much takes a few milliseconds; more would hold up the requests beside it.
_INLINE_BODY_BYTES = 64 * 1024
Endpoint = Callable[[Request], Awaitable[Response]]
_Route = tuple[str, str, Endpoint]
"""Path, method and endpoint."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    received: Received
    deadline: Deadline


class AppContext:
    """What the applications of one process share; see `build_app`."""

    def __init__(
        self,
        record: RecordSink,
        *,
        limits: RequestLimits | None = None,
        feedback: FeedbackLog | None = None,
        replica: Replica | None = None,
        statistics: StatisticsBoard | None = None,
        echo_request_id: bool = True,
    ) -> None:
        self.record = record
        self._statistics = statistics
        self.feedback = feedback
        self.echo_request_id = echo_request_id
        self.in_flight = in_flight = InFlight(limits or RequestLimits())
        gauges = Gauges(num_in_flight=lambda: in_flight.count, num_lost=lambda: record.num_lost)
        self.board = MetricsBoard(replica or Replica(), gauges)

    def answering(self, predictor: Predictor) -> Answering:
        """The answers of one of its models."""
        metrics = self.board.of(predictor.name, predictor.version)
        if self._statistics is not None:
            metrics.statistics = self._statistics.of(predictor)
        return Answering(predictor, self.record, metrics)


def build_app(
    predictor: Predictor,
    *,
    record: RecordSink,
    limits: RequestLimits | None = None,
    feedback: FeedbackLog | None = None,
    replica: Replica | None = None,
    echo_request_id: bool = True,
) -> ASGIApp:
    """The application that answers for `predictor`, and writes what it answered to `record`.

    Labels that come later go to `feedback`; without it there is no route for them. `replica` labels the metrics.
    `echo_request_id` is off behind a server that writes x-request-id and traceparent itself.
    """
    context = AppContext(record, limits=limits, feedback=feedback, replica=replica, echo_request_id=echo_request_id)
    return app_within(context, predictor)


def app_within(context: AppContext, predictor: Predictor, others: OtherApps | None = None) -> ASGIApp:
    """The application that answers for `predictor`, and for `others` where a request means one of them."""
    others = others or no_others(predictor.name, predictor.version)
    answering = context.answering(predictor)
    careful = CarefulAnswers(answering, context.in_flight.limits, others.models)
    routes = _Routes(careful, context, others)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        context.record.close()

    # The usual one makes a page that loads its script from a network of delivery, which a closed network has not.
    app = FastAPIOffline(title=predictor.name, version=__version__, redoc_url=None, lifespan=lifespan)
    document = openapi_document(
        predictor,
        server_version=__version__,
        takes_feedback=context.feedback is not None,
        has_statistics=answering.metrics.statistics is not None,
    )
    app.openapi = lambda: document  # type: ignore[method-assign]  # the way that FastAPI documents
    table = [*routes.of_server(), *routes.of_model()]
    if context.feedback is not None:
        endpoint = feedback_endpoint(predictor, context.feedback, context.in_flight.limits)
        table.append(("/feedback", "POST", endpoint))
    received = _received(app, table, answering, context)
    return FastPath(ManyModels(received, others), _fast(answering, context, others.models.own.alias_paths))


def other_app_within(context: AppContext, predictor: Predictor) -> ASGIApp:
    """The application of a model beside an endpoint's own: its part of the protocol alone.

    Not FastAPI's, which keeps what documents an application for ever, and with it the model.
    """
    answering = context.answering(predictor)
    careful = CarefulAnswers(answering, context.in_flight.limits)
    routes = _Routes(careful, context, no_others(predictor.name, predictor.version))
    return FastPath(_received(Starlette(), routes.of_model(), answering, context), _fast(answering, context))


def _received(app: Starlette, table: Sequence[_Route], answering: Answering, context: AppContext) -> ASGIApp:
    """The application with its routes, and around them what happens to every request."""
    for path, method, endpoint in table:
        app.router.add_route(path, _labelled(path, endpoint), methods=[method], include_in_schema=False)
    app.add_exception_handler(RequestError, refuse)
    app.add_exception_handler(HTTPException, refuse_route)
    app.add_middleware(
        Reception,
        metrics=answering.metrics,
        in_flight=context.in_flight,
        echo_request_id=context.echo_request_id,
    )
    app.add_middleware(Readiness)
    return app


def _fast(answering: Answering, context: AppContext, aliases: Sequence[str] = ()) -> FastAnswers:
    return FastAnswers(answering, in_flight=context.in_flight, echo_request_id=context.echo_request_id, aliases=aliases)


class _Routes:
    """The endpoints, bound to what they answer from."""

    def __init__(self, careful: CarefulAnswers, context: AppContext, others: OtherApps) -> None:
        self._careful = careful
        self._board = context.board
        self._others = others

    def of_server(self) -> list[_Route]:
        """What is asked without naming a model."""
        return [
            ("/", "GET", self._home()),
            ("/v2", "GET", self._server_metadata),
            ("/v2/", "GET", self._server_metadata),
            ("/v2/health/live", "GET", self._live),
            ("/v2/health/ready", "GET", self._ready),
            ("/invocations", "POST", self._invocations),
            ("/ping", "GET", self._ping),
            ("/health", "GET", self._ping),
            ("/version", "GET", self._version),
            ("/metrics", "GET", self._metrics_text),
            ("/v2/repository/index", "POST", self._repository_index),
        ]

    def of_model(self) -> list[_Route]:
        """What is asked of the model by its name."""
        statistics = statistics_endpoint(self._careful.answering, self._board.replica.name, self._check_model)
        routes: list[_Route] = []
        for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            routes += [
                (path, "GET", self._model_metadata),
                (f"{path}/ready", "GET", self._model_ready),
                (f"{path}/statistics", "GET", statistics),
                (f"{path}/infer", "POST", self._infer),
            ]
        return routes

    def _home(self) -> Endpoint:
        page = home_page(self._careful.answering.predictor)

        async def home(_: Request) -> Response:
            return HTMLResponse(page.document, headers={"content-security-policy": page.policy})

        return home

    async def _server_metadata(self, _: Request) -> Response:
        return _json({"name": "mlcluster", "version": __version__, "extensions": list(_EXTENSIONS)})

    async def _repository_index(self, request: Request) -> Response:
        """`{"ready": true}` asks for those that answer, which all do."""
        body = await read_body(request, self._careful.limits)
        if body.strip():
            refuse_unknown(parse_object(body), ("ready",), where="the request")
        return Response(json.dumps(self._others.index()), media_type=_JSON)

    async def _live(self, _: Request) -> Response:
        return _json({"live": True})

    async def _ready(self, _: Request) -> Response:
        return _json({"ready": True})

    async def _ping(self, _: Request) -> Response:
        return Response("\n", media_type=_JSON)

    async def _version(self, _: Request) -> Response:
        return Response(__version__, media_type="text/plain")

    async def _metrics_text(self, _: Request) -> Response:
        return Response(self._board.exposition(), headers={"content-type": CONTENT_TYPE})

    async def _model_metadata(self, request: Request) -> Response:
        self._check_model(request)
        return _json(self._careful.metadata())

    async def _model_ready(self, request: Request) -> Response:
        self._check_model(request)
        return _json({"name": request.path_params["name"], "ready": True})

    async def _infer(self, request: Request) -> Response:
        self._check_model(request)
        media_type(request, _INFER_TYPES)
        header_length = request.headers.get(HEADER_LENGTH)
        return await self._answered(request, lambda asked: self._infer_now(asked, header_length))

    def _infer_now(self, asked: _Asked, header_length: str | None) -> Response:
        careful = self._careful
        parsed = parse_infer_request(asked.received.body, header_length, careful.inputs, careful.outputs)
        deadline = asked.deadline
        if parsed.timeout_seconds is not None:
            deadline = deadline.within(parsed.timeout_seconds)
        answer = careful.answer(parsed.columns, asked.received, deadline)
        members = careful.identity
        if parsed.id is not None:
            members["id"] = parsed.id
        members["parameters"] = {"prediction_id": answer.prediction_id}
        content, document_length = infer_response(members, parsed.outputs, careful.values(answer), answer.num_rows)
        headers = {"x-prediction-id": answer.prediction_id}
        if document_length is None:
            return Response(content, headers=headers, media_type=_JSON)
        return Response(content, headers=headers | {HEADER_LENGTH: str(document_length)}, media_type=_OCTETS)

    async def _invocations(self, request: Request) -> Response:
        is_csv = media_type(request, _INVOCATION_TYPES) == "text/csv"
        return await self._answered(request, lambda asked: self._invoke_now(asked, is_csv=is_csv))

    def _invoke_now(self, asked: _Asked, *, is_csv: bool) -> Response:
        careful, body = self._careful, asked.received.body
        columns = parse_csv_invocation(body, careful.inputs) if is_csv else parse_json_invocation(body, careful.names)
        answer = careful.answer(columns, asked.received, asked.deadline)
        metadata = {"prediction_id": answer.prediction_id, **careful.identity}
        members = {"predictions": answer.prediction.labels, "metadata": metadata}
        return _json(members, {"x-prediction-id": answer.prediction_id})

    async def _answered(self, request: Request, respond: Callable[[_Asked], Response]) -> Response:
        limits, started = self._careful.limits, time.perf_counter()
        headers = dict(request.scope["headers"])
        deadline = Deadline.of(headers, started=started, default_seconds=limits.timeout_seconds)
        body = await read_body(request, limits)
        received = Received(body=body, started=started, ids=request.scope[IDS_KEY])
        asked = _Asked(received=received, deadline=deadline)
        if len(body) > _INLINE_BODY_BYTES:
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
