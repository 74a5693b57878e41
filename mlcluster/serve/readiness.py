"""Whether a replica answers, for what stands before it: asked four times a second, and therefore counted nowhere."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

READY_PATH = "/-/replica/ready"
"""Not the protocol's own path, which would fill the metrics with the checks."""


class Readiness:
    """ASGI middleware that answers `READY_PATH` with 200, and leaves the rest."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != READY_PATH:
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
