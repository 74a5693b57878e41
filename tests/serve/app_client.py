"""Drives an application in this process, without a socket: one request in about a millisecond."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from starlette.types import ASGIApp


class AppClient:
    """A synchronous client of an ASGI application; requests share one event loop."""

    def __init__(self, app: ASGIApp) -> None:
        self._loop = asyncio.new_event_loop()
        transport = httpx.ASGITransport(app=app)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://test")

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        return self._loop.run_until_complete(self._client.request(method, url, **options))

    def get(self, url: str, **options: Any) -> httpx.Response:
        return self.request("GET", url, **options)

    def post(self, url: str, **options: Any) -> httpx.Response:
        return self.request("POST", url, **options)

    def together(self, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
        """Requests that are all in flight at once."""

        async def send() -> list[httpx.Response]:
            return await asyncio.gather(*(self._client.request(m, u, **options) for m, u, options in requests))

        return self._loop.run_until_complete(send())

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs something else in the loop of the requests."""
        self._loop.run_until_complete(work)

    def run_in(self, pool: ThreadPoolExecutor) -> None:
        """Has the application's blocking work done there."""
        self._loop.set_default_executor(pool)

    def close(self) -> None:
        self._loop.run_until_complete(self._client.aclose())
        self._loop.close()
