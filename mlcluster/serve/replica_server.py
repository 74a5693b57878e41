"""A replica's own socket: where the front sends its requests, past Ray Serve's proxy and its two hops."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlcluster.serve.front.haproxy_config import Address
from mlcluster.serve.http_server import server_config

_KEEP_ALIVE_SECONDS = 75
"""Longer than the front keeps a connection that it does not use: it is for the one that asks to close first."""


class ReplicaServer:
    """Serves `app` at a free port of `host`, in the event loop that runs when it is started.

    With a `front_secret`, it answers only the front door that bears it.
    """

    def __init__(self, app: ASGIApp, *, host: str, front_secret: str | None = None) -> None:
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        self._socket.bind((host, 0))
        self.address = Address(host=host, port=self._socket.getsockname()[1])
        settings = {"lifespan": "off", "log_config": None, "timeout_keep_alive": _KEEP_ALIVE_SECONDS, "backlog": 4096}
        self._server = uvicorn.Server(server_config(app, front_secret=front_secret, **settings))
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Answers from now on. Not in a process's main thread, where uvicorn would take the signals for itself."""
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=[self._socket]))

    @property
    def is_running(self) -> bool:
        """Whether it has been started and goes on."""
        return self._task is not None and not self._task.done()

    async def close(self, *, grace_seconds: float) -> None:
        """Takes no new connection, and ends when each request has been answered, or at last after `grace_seconds`."""
        if self._task is None:
            return
        self._server.should_exit = True
        try:
            await asyncio.wait_for(self._task, timeout=grace_seconds)
        except TimeoutError:
            self._server.force_exit = True


class Drained:
    """An application that first lets a server drain when it is told to end: records close after the last answer."""

    def __init__(self, app: ASGIApp, drain: Callable[[], Awaitable[None]]) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def receive_when_drained() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self._drain()
            return message

        await self._app(scope, receive_when_drained, send)
