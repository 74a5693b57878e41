"""Every route of the HTTP interface, and what it gives."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from mlcluster import __version__
from mlcluster.serve.app_context import AppContext
from mlcluster.serve.careful import CarefulAnswers
from mlcluster.serve.home_page import home_page
from mlcluster.serve.json_body import JSON, json_response, parse_object, refuse_unknown
from mlcluster.serve.many_models import OtherApps
from mlcluster.serve.metrics import CONTENT_TYPE
from mlcluster.serve.predicting import Predicting
from mlcluster.serve.reception import read_body
from mlcluster.serve.statistics_route import statistics_endpoint

_EXTENSIONS = ("binary_tensor_data", "model_repository")
Endpoint = Callable[[Request], Awaitable[Response]]
Route = tuple[str, str, Endpoint]
"""Path, method and endpoint."""


class Routes:
    """The endpoints, bound to what they answer from."""

    def __init__(self, careful: CarefulAnswers, context: AppContext, others: OtherApps) -> None:
        self._careful = careful
        self._predicting = Predicting(careful)
        self._board = context.board
        self._others = others

    def of_server(self) -> list[Route]:
        """What is asked without naming a model."""
        return [
            ("/", "GET", self._home()),
            ("/v2", "GET", self._server_metadata),
            ("/v2/", "GET", self._server_metadata),
            ("/v2/health/live", "GET", self._live),
            ("/v2/health/ready", "GET", self._ready),
            ("/invocations", "POST", self._predicting.invocations),
            ("/ping", "GET", self._ping),
            ("/health", "GET", self._ping),
            ("/version", "GET", self._version),
            ("/metrics", "GET", self._metrics_text),
            ("/v2/repository/index", "POST", self._repository_index),
        ]

    def of_model(self) -> list[Route]:
        """What is asked of the model by its name."""
        statistics = statistics_endpoint(self._careful.answering, self._board.replica.name, self._check_model)
        routes: list[Route] = []
        for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            routes += [
                (path, "GET", self._model_metadata),
                (f"{path}/ready", "GET", self._model_ready),
                (f"{path}/statistics", "GET", statistics),
                (f"{path}/infer", "POST", self._predicting.infer),
            ]
        return routes

    def _home(self) -> Endpoint:
        page = home_page(self._careful.answering.predictor)

        async def home(_: Request) -> Response:
            return HTMLResponse(page.document, headers={"content-security-policy": page.policy})

        return home

    async def _server_metadata(self, _: Request) -> Response:
        return json_response({"name": "mlcluster", "version": __version__, "extensions": list(_EXTENSIONS)})

    async def _repository_index(self, request: Request) -> Response:
        """`{"ready": true}` asks for those that answer, which all do."""
        body = await read_body(request, self._careful.limits)
        if body.strip():
            refuse_unknown(parse_object(body), ("ready",), where="the request")
        return Response(json.dumps(self._others.index()), media_type=JSON)

    async def _live(self, _: Request) -> Response:
        return json_response({"live": True})

    async def _ready(self, _: Request) -> Response:
        return json_response({"ready": True})

    async def _ping(self, _: Request) -> Response:
        return Response("\n", media_type=JSON)

    async def _version(self, _: Request) -> Response:
        return Response(__version__, media_type="text/plain")

    async def _metrics_text(self, _: Request) -> Response:
        return Response(self._board.exposition(), headers={"content-type": CONTENT_TYPE})

    async def _model_metadata(self, request: Request) -> Response:
        self._check_model(request)
        return json_response(self._careful.metadata())

    async def _model_ready(self, request: Request) -> Response:
        self._check_model(request)
        return json_response({"name": request.path_params["name"], "ready": True})

    def _check_model(self, request: Request) -> None:
        self._careful.check_model(request.path_params["name"], request.path_params.get("version"))
