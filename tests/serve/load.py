"""Requests at a steady rate, whatever happens to the server: each on a connection of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import httpx
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

TIMEOUT_SECONDS = 90
_JSON = {"content-type": "application/json"}
_MOST_THREADS = 512
"""For a client that waits in threads: what is in flight when nothing is answered for half a minute."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """To one request; `status` is 0 where there was none, and `text` says why."""

    sent_at: float
    """Seconds of the clock `time.time`."""
    seconds: float
    status: int
    text: str

    @property
    def is_lost(self) -> bool:
        return self.status != 200


Ask = Callable[[], Awaitable[tuple[int, str]]]
"""Sends one request; status and text of the answer."""
Client = Callable[[str, bytes], AbstractAsyncContextManager[Ask]]
"""By the address and the body of the requests."""


@asynccontextmanager
async def asks_once(url: str, body: bytes) -> AsyncIterator[Ask]:
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, limits=limits) as client:

        async def ask() -> tuple[int, str]:
            try:
                response = await client.post(url, content=body, headers=_JSON)
            except httpx.HTTPError as error:
                return 0, repr(error)
            return response.status_code, response.text

        yield ask


@asynccontextmanager
async def asks_again(url: str, body: bytes) -> AsyncIterator[Ask]:
    """Sends a request again whose connection breaks: the client of `docs/serving-faults.md`."""

    def post() -> tuple[int, str]:
        with requests.Session() as client:
            again = Retry(3, allowed_methods=["POST"], backoff_factor=0.1, respect_retry_after_header=False)
            client.mount("http://", HTTPAdapter(max_retries=again))
            try:
                response = client.post(url, data=body, headers=_JSON, timeout=TIMEOUT_SECONDS)
            except requests.RequestException as error:
                return 0, repr(error)
            return response.status_code, response.text

    with ThreadPoolExecutor(_MOST_THREADS) as pool:
        yield lambda: asyncio.get_running_loop().run_in_executor(pool, post)


CLIENTS: dict[str, Client] = {"once": asks_once, "again": asks_again}


async def ask_steadily(ask: Ask, *, per_second: float, is_over: Callable[[], bool], answers: list[Answer]) -> None:
    """Sends requests until `is_over`, and returns when each has its answer, which goes into `answers` as it comes."""

    async def one() -> None:
        sent_at, started = time.time(), time.perf_counter()
        status, text = await ask()
        answers.append(Answer(sent_at=sent_at, seconds=time.perf_counter() - started, status=status, text=text))

    async with asyncio.TaskGroup() as group:
        due = time.monotonic()
        while not is_over():
            group.create_task(one())
            due += 1 / per_second
            await asyncio.sleep(max(0.0, due - time.monotonic()))


class Load:
    """Requests beside what a test does, while the block runs."""

    def __init__(self, url: str, *, per_second: float = 15.0, body: bytes = b"{}", client: Client = asks_once) -> None:
        self._url = url
        self._per_second = per_second
        self._body = body
        self._client = client
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask()))
        self.answers: list[Answer] = []

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    @property
    def lost(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.is_lost]

    @property
    def texts(self) -> list[str]:
        return [answer.text for answer in self.answers]

    async def _ask(self) -> None:
        async with self._client(self._url, self._body) as ask:
            await ask_steadily(ask, per_second=self._per_second, is_over=self._is_over.is_set, answers=self.answers)
