"""Requests at a steady rate beside what a test does."""

from __future__ import annotations

import asyncio
import threading
import time

import httpx


class Load:
    """Requests at a steady rate, each on a connection of its own, while the block runs."""

    def __init__(self, url: str, *, per_second: float = 15.0, body: bytes = b"{}") -> None:
        self._url = url
        self._pause = 1 / per_second
        self._body = body
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask()))
        self.answers: list[tuple[int, str, float]] = []
        """Status (0 for none), body and seconds."""

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    @property
    def lost(self) -> list[tuple[int, str, float]]:
        return [answer for answer in self.answers if answer[0] != 200]

    @property
    def slowest(self) -> float:
        return max(seconds for *_, seconds in self.answers)

    async def _ask(self) -> None:
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(timeout=90, limits=limits) as client, asyncio.TaskGroup() as group:
            due = time.monotonic()
            while not self._is_over.is_set():
                group.create_task(self._one(client))
                due += self._pause
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _one(self, client: httpx.AsyncClient) -> None:
        started = time.perf_counter()
        headers = {"content-type": "application/json"}
        try:
            response = await client.post(self._url, content=self._body, headers=headers)
            status, text = response.status_code, response.text
        except httpx.HTTPError as error:
            status, text = 0, repr(error)
        self.answers.append((status, text, time.perf_counter() - started))
