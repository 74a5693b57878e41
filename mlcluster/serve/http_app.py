"""The HTTP face of one `Predictor`: the Open Inference Protocol, MLflow's scoring protocol, and pages for people.

Pure: no Ray, no global state, so that a test drives it in milliseconds and any ASGI server can run it. Every answer to
a prediction bears an id; every refusal is a 4xx that names the field.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from mlcluster import __version__
from mlcluster.serve.answering import Answering
from mlcluster.serve.app_context import AppContext
from mlcluster.serve.careful import CarefulAnswers
from mlcluster.serve.feedback import FeedbackLog
from mlcluster.serve.feedback_route import feedback_endpoint
from mlcluster.serve.label_targets import LabelTargets
from mlcluster.serve.many_models import ManyModels, OtherApps, no_others
from mlcluster.serve.metrics import Replica
from mlcluster.serve.openapi import openapi_document
from mlcluster.serve.predictor import Predictor
from mlcluster.serve.problem import RequestError
from mlcluster.serve.readiness import Readiness
from mlcluster.serve.reception import ROUTE_KEY, Reception, RequestLimits, refuse, refuse_route
from mlcluster.serve.records.answered import RecordSink
from mlcluster.serve.routes import Endpoint, Route, Routes
from mlcluster.serve.short_way.answers import FastAnswers
from mlcluster.serve.short_way.path import FastPath


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
    context = AppContext(record, limits=limits, feedback=feedback, replica=replica, echo_request_id=echo_request_id)
    return app_within(context, predictor)


def app_within(context: AppContext, predictor: Predictor, others: OtherApps | None = None) -> FastPath:
    """The application that answers for `predictor`, and for `others` where a request means one of them."""
    others = others or no_others(predictor.name, predictor.version)
    answering = context.answering(predictor)
    careful = CarefulAnswers(answering, context.in_flight, others.models)
    routes = Routes(careful, context, others)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        context.record.close()

    # The usual one makes a page that loads its script from a network of delivery, which a closed network has not.
    app = FastAPIOffline(title=predictor.name, version=__version__, redoc_url=None, lifespan=lifespan)
    targets = None if context.feedback is None else LabelTargets(others.models, predictor.schema.target)
    document = openapi_document(
        predictor,
        server_version=__version__,
        targets=targets,
        has_statistics=answering.metrics.statistics is not None,
    )
    app.openapi = lambda: document  # type: ignore[method-assign]  # the way that FastAPI documents
    table = [*routes.of_server(), *routes.of_model()]
    if context.feedback is not None and targets is not None:
        endpoint = feedback_endpoint(targets, context.feedback, context.in_flight.limits)
        table.append(("/feedback", "POST", endpoint))
    received = _received(app, table, answering, context)
    answers = _fast(answering, context, others.models.own.alias_paths)
    return FastPath(ManyModels(received, others), answers, by_columns=careful)


def other_app_within(context: AppContext, predictor: Predictor) -> FastPath:
    """The application of a model beside an endpoint's own: its part of the protocol alone.

    Not FastAPI's, which keeps what documents an application for ever, and with it the model.
    """
    answering = context.answering(predictor)
    careful = CarefulAnswers(answering, context.in_flight)
    routes = Routes(careful, context, no_others(predictor.name, predictor.version))
    received = _received(Starlette(), routes.of_model(), answering, context)
    return FastPath(received, _fast(answering, context), by_columns=careful)


def _received(app: Starlette, table: Sequence[Route], answering: Answering, context: AppContext) -> ASGIApp:
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


def _labelled(path: str, endpoint: Endpoint) -> Endpoint:
    async def labelled(request: Request) -> Response:
        request.scope[ROUTE_KEY] = path
        return await endpoint(request)

    return labelled
