"""A replica's own sockets take requests of their front door alone, which puts a secret that both know into each."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from mlcluster.serve.problem import RequestError
from mlcluster.serve.reception import ids_of, problem_response

FRONT_HEADER = "x-mlcluster-front"
NOT_THE_FRONT = RequestError(401, "This is a replica's own port, which answers its front door alone; ask the endpoint.")
_NAME = FRONT_HEADER.encode()


def bears_secret(headers: Mapping[bytes, bytes], secret: str) -> bool:
    """Whether a request with these headers is the front's."""
    return hmac.compare_digest(headers.get(_NAME, b""), secret.encode())


class FrontOnly:
    """ASGI middleware that answers 401 to what does not bear `secret`."""

    def __init__(self, app: ASGIApp, secret: str) -> None:
        self._app = app
        self._secret = secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not bears_secret(dict(scope["headers"]), self._secret):
            await problem_response(NOT_THE_FRONT, ids_of(scope))(scope, receive, send)
        else:
            await self._app(scope, receive, send)
