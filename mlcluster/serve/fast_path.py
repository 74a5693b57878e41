"""The short way for predictions on a server's own interface (ASGI): one dispatch, one read, one answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from types import CoroutineType, coroutine
from typing import Any, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlcluster.serve.fast_answers import FastAnswers
from mlcluster.serve.reception import DEADLINE_KEY


class FastPath:
    """An ASGI application around `careful`, which gets every request that `answers` leave, its body included."""

    def __init__(self, careful: ASGIApp, answers: FastAnswers) -> None:
        self.careful = careful
        self.answers = answers
        self._paths = answers.paths
        self._in_flight = answers.in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in self._paths:
            await self.careful(scope, receive, send)
            return
        started = time.perf_counter()
        path, headers = scope["path"], dict(scope["headers"])
        # A header that is given twice is for the careful to judge.
        if len(headers) != len(scope["headers"]) or not self.answers.may_answer(path, headers):
            await self.careful(scope, receive, send)
            return
        message = await self._first_message(scope, receive)
        answer = None
        if message is not None and message["type"] == "http.request":
            body = message.get("body", b"")
            if len(body) == int(headers[b"content-length"]):
                answer = self.answers.answer(path, headers, body, started)
        if answer is None:
            await self.careful(scope, _again(message, receive), send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.content})

    async def _first_message(self, scope: Scope, receive: Receive) -> Message | None:
        """The body, or its first part; None when nothing comes in time, which the careful way says at once."""
        taking = receive()
        if not isinstance(taking, CoroutineType):
            return await taking
        try:
            waits_for = taking.send(None)
        except StopIteration as taken:  # it was there: no clock need be set
            return cast(Message, taken.value)
        deadline = asyncio.get_running_loop().time() + self._in_flight.limits.body_timeout_seconds
        self._in_flight.enter()
        try:
            async with asyncio.timeout_at(deadline):
                return cast(Message, await _resumed(taking, waits_for))
        except TimeoutError:
            scope[DEADLINE_KEY] = deadline
            return None
        finally:
            self._in_flight.leave()


@coroutine
def _resumed(started: CoroutineType[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    """Awaits a coroutine that has run until it waits for something."""
    try:
        while True:
            try:
                sent = yield waits_for
            except BaseException as error:  # as `await` does: what is thrown at the task reaches what it waits for
                waits_for = started.throw(error)
            else:
                waits_for = started.send(sent)
    except StopIteration as ended:
        return ended.value


def _again(message: Message | None, receive: Receive) -> Receive:
    """`receive`, with a message before the others that was taken already."""
    if message is None:
        return receive
    taken = [message]

    async def replayed() -> Message:
        return taken.pop() if taken else await receive()

    return replayed
