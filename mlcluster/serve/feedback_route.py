"""`POST /feedback`: labels by the ids of their predictions."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from mlcluster.serve.feedback import Feedback, FeedbackLog, parse_feedback
from mlcluster.serve.label_targets import LabelTargets
from mlcluster.serve.problem import RequestError
from mlcluster.serve.reception import RequestLimits, media_type, read_body

log = logging.getLogger(__name__)

_TYPES = ("", "application/json", "application/x-www-form-urlencoded")


def feedback_endpoint(
    targets: LabelTargets, feedback: FeedbackLog, limits: RequestLimits
) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint that writes the labels of a request to `feedback`, all or, where one is wrong, none."""

    def add(body: bytes) -> list[Feedback]:
        items = parse_feedback(body, targets.of)
        try:
            feedback.add(items)
        except OSError as error:
            log.warning("refused %d labels that could not be written: %s", len(items), error)
            detail = f"The labels could not be written ({error.strerror}); send them again later."
            raise RequestError(503, detail, headers={"retry-after": "10"}) from error
        return items

    async def endpoint(request: Request) -> Response:
        media_type(request, _TYPES)
        items = await asyncio.to_thread(add, await read_body(request, limits))
        return Response(json.dumps({"accepted": len(items)}), media_type="application/json")

    return endpoint
