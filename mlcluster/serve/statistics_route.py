"""`GET /v2/models/NAME[/versions/V]/statistics`: what this replica was asked and has answered, within the window."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from mlcluster.serve.answering import Answering
from mlcluster.serve.problem import RequestError


def statistics_endpoint(
    answering: Answering, replica: str, check_model: Callable[[Request], None]
) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint; 404 where nothing is watched, or there is nothing to compare with."""
    predictor, metrics = answering.predictor, answering.metrics

    async def endpoint(request: Request) -> Response:
        check_model(request)
        if metrics.statistics is None:
            detail = "Statistics are switched off (monitor.histograms), or the bundle has no reference profile."
            raise RequestError(404, detail)
        head = {"model": predictor.name, "version": predictor.version, "replica": replica}
        found = metrics.statistics.to_json(time.time_ns() // 1_000_000)
        return Response(json.dumps(head | found), media_type="application/json")

    return endpoint
