"""A replica's own socket takes requests of its front door alone, which puts a secret that both know into each."""

from __future__ import annotations

import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from mlcluster.serve.problem import RequestError
from mlcluster.serve.reception import ids_of, problem_response

FRONT_HEADER = "x-mlcluster-front"
_NAME = FRONT_HEADER.encode()


class FrontOnly:
    """ASGI middleware that answers 401 to what does not bear `secret`."""

    def __init__(self, app: ASGIApp, secret: str) -> None:
        self._app = app
        self._secret = secret.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self.admits(dict(scope["headers"]).get(_NAME)):
            await problem_response(RequestError(401, _REFUSAL), ids_of(scope))(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def admits(self, sent: bytes | None) -> bool:
        """Whether the header's value is the secret."""
        return sent is not None and hmac.compare_digest(sent, self._secret)


_REFUSAL = "This is a replica's own port, which answers its front door alone; ask the endpoint."
