"""What happens to every request, whatever its route: an id, a place or a 429, a count, and never a bare failure."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlcluster.serve.metrics import ServingMetrics
from mlcluster.serve.problem import MEDIA_TYPE, RequestError, shorten
from mlcluster.serve.tracing import TRACEPARENT, RequestIds

log = logging.getLogger(__name__)

ROUTE_KEY = "mlcluster.route"
"""Where in the ASGI scope a route leaves its template, for the counts."""
DEADLINE_KEY = "mlcluster.deadline"
"""Where in the ASGI scope stands by when the body must be there, in the loop's seconds, if that was set already."""
IDS_KEY = "mlcluster.ids"
"""Where in the ASGI scope stand the `RequestIds`."""
_CLIENT_GONE = 499
"""How a request that was never answered is counted, as nginx does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestLimits:
    """What one replica takes upon itself."""

    max_body_bytes: int = 16 * 2**20
    max_rows: int = 100_000
    max_decoded_bytes: int = 64 * 2**20
    """What an Arrow body may become, decompressed and with its dictionaries written out."""
    max_in_flight: int = 256
    """Predictions in work at one moment; one more is answered 429."""
    body_timeout_seconds: float = 30.0
    """For a body to arrive: an upload that stalls would hold its place for ever."""
    timeout_seconds: float = 60.0
    """From a request to the moment at which the model is asked, where the request does not say less."""


class InFlight:
    """How many predictions are in work, of those that may be; for one event loop."""

    def __init__(self, limits: RequestLimits) -> None:
        self.limits = limits
        self.count = 0

    @property
    def has_room(self) -> bool:
        """Whether one more may enter."""
        return self.count < self.limits.max_in_flight

    def enter(self) -> None:
        self.count += 1

    def leave(self) -> None:
        self.count -= 1


class Reception:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, *, metrics: ServingMetrics, in_flight: InFlight, echo_request_id: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._echo_request_id = echo_request_id
        self._in_flight = in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] != "POST":
            await self._serve(scope, receive, send)
            return
        is_full = not self._in_flight.has_room
        self._in_flight.enter()
        try:
            await self._serve(scope, receive, send, is_full=is_full)
        finally:
            self._in_flight.leave()

    async def _serve(self, scope: Scope, receive: Receive, send: Send, *, is_full: bool = False) -> None:
        started = time.perf_counter()
        status = 0
        ids = scope[IDS_KEY] = ids_of(scope)

        async def send_with_ids(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._echo_request_id:
                    message["headers"] = [*message.get("headers", ()), *ids.headers]
            await send(message)

        try:
            if is_full:
                await problem_response(busy(), ids)(scope, receive, send_with_ids)
            else:
                await self._app(scope, receive, send_with_ids)
        except ClientDisconnect:
            log.debug("the client left before its answer %s", _shown(ids))
        except Exception:
            log.exception("failed to answer path=%s %s", scope["path"], _shown(ids))
            if status:
                raise
            await problem_response(RequestError(500, FAULT), ids)(scope, receive, send_with_ids)
        finally:
            self._metrics.count_request(
                scope.get(ROUTE_KEY, "other"), status or _CLIENT_GONE, time.perf_counter() - started
            )


def ids_of(scope: Scope) -> RequestIds:
    """What a request is called; new names where it bears none."""
    headers = dict(scope["headers"])
    if sum(name == TRACEPARENT for name, _ in scope["headers"]) > 1:
        del headers[TRACEPARENT]
    return RequestIds.of(headers)


def _shown(ids: RequestIds) -> str:
    return " ".join(f"{name}={value}" for name, value in ids.members.items())


FAULT = "The server failed on this request, which is a fault of the server; its log has the request id."


def busy() -> RequestError:
    """What is said to one request too many."""
    detail = "This replica has all the requests that it can hold; try again in a second."
    return RequestError(429, detail, headers={"retry-after": "1"})


def problem_response(problem: RequestError, ids: RequestIds) -> Response:
    """The answer that refuses a request."""
    return Response(problem.encoded(ids.members), problem.status, dict(problem.headers), MEDIA_TYPE)


async def read_body(request: Request, limits: RequestLimits) -> bytes:
    """The body, of at most `limits.max_body_bytes`.

    Raises:
        RequestError: 413 before the body is read if its announced length is too large, or as soon as it grows too
            large; 408 if it does not arrive in time.
    """
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and (len(announced) > 18 or int(announced) > limits.max_body_bytes):
        raise _too_large(limits)
    chunks: list[bytes] = []
    num_bytes = 0
    try:
        deadline = asyncio.get_running_loop().time() + limits.body_timeout_seconds
        async with asyncio.timeout_at(request.scope.get(DEADLINE_KEY, deadline)):
            async for chunk in request.stream():
                num_bytes += len(chunk)
                if num_bytes > limits.max_body_bytes:
                    raise _too_large(limits)
                chunks.append(chunk)
    except TimeoutError as error:
        detail = f"The body did not arrive within {limits.body_timeout_seconds:g} s; send it faster, or in parts."
        raise RequestError(408, detail, headers={"connection": "close"}) from error
    return b"".join(chunks)


def media_type(request: Request, allowed: tuple[str, ...]) -> str:
    """The request's media type.

    Raises:
        RequestError: 415 when it is none of `allowed`, another charset than UTF-8, or a compressed body.
    """
    kind, _, rest = request.headers.get("content-type", "").partition(";")
    sent = kind.strip().lower()
    charset = rest.lower().partition("charset=")[2].strip(' "')
    encoding = request.headers.get("content-encoding", "identity").lower()
    if sent not in allowed or charset not in ("", "utf-8", "utf8") or encoding != "identity":
        wanted = " or ".join(kind for kind in allowed if kind not in ("", "application/x-www-form-urlencoded"))
        shown = shorten(request.headers.get("content-type") or "no content type")
        raise RequestError(415, f"The body comes as {shown} ({encoding}); send {wanted}, in UTF-8, not compressed.")
    return sent


async def refuse(request: Request, error: Exception) -> Response:
    """The handler of a `RequestError`, for Starlette."""
    assert isinstance(error, RequestError)
    return problem_response(error, request.scope[IDS_KEY])


async def refuse_route(request: Request, error: Exception) -> Response:
    """The handler of Starlette's own refusals: no such route, another method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        detail = f"{shorten(request.url.path)} is no route; / lists them."
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("allow") or (error.headers or {}).get("Allow", "another method")
        detail = f"{shorten(request.url.path)} does not take {request.method}; use {allowed}."
    else:
        detail = str(error.detail)
    return problem_response(RequestError(error.status_code, detail, headers=error.headers), request.scope[IDS_KEY])


def _too_large(limits: RequestLimits) -> RequestError:
    detail = f"The body is above {limits.max_body_bytes} bytes; send the rows in several requests."
    return RequestError(413, detail, headers={"connection": "close"})
