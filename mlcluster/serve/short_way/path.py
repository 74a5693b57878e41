"""The short way for predictions on a server's own interface (ASGI): one dispatch, one read, one answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from types import CoroutineType, coroutine
from typing import Any, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlcluster.serve.careful import CarefulAnswers
from mlcluster.serve.reception import DEADLINE_KEY
from mlcluster.serve.short_way.answers import FastAnswers


class FastPath:
    """An ASGI application around `careful`, which gets every request that `answers` leave, its body included."""

    def __init__(self, careful: ASGIApp, answers: FastAnswers, *, by_columns: CarefulAnswers) -> None:
        self.careful = careful
        self.answers = answers
        self.by_columns = by_columns
        """What the application answers from, for those who come by another protocol than HTTP."""
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
        messages = await self._messages(scope, receive)
        answer = None
        if messages and messages[-1]["type"] == "http.request" and not messages[-1].get("more_body"):
            parts = [message.get("body", b"") for message in messages]
            answer = self.answers.answer(path, headers, parts[0] if len(parts) == 1 else b"".join(parts), started)
        if answer is None:
            await self.careful(scope, _again(messages, receive), send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.content})

    async def _messages(self, scope: Scope, receive: Receive) -> list[Message]:
        """The body in its parts; fewer when they do not come in time, which the careful way says at once."""
        taking = receive()
        messages: list[Message] = []
        if isinstance(taking, CoroutineType):
            try:
                taking = _resumed(taking, taking.send(None))
            except StopIteration as taken:  # it was there: no clock need be set
                messages.append(cast(Message, taken.value))
                if not messages[0].get("more_body"):
                    return messages
                taking = receive()
        deadline = asyncio.get_running_loop().time() + self._in_flight.limits.body_timeout_seconds
        self._in_flight.enter()
        try:
            async with asyncio.timeout_at(deadline):
                messages.append(cast(Message, await taking))
                while messages[-1].get("more_body") and _num_bytes(messages) <= self.answers.max_body_bytes:
                    messages.append(await receive())
        except TimeoutError:
            scope[DEADLINE_KEY] = deadline
        finally:
            self._in_flight.leave()
        return messages


def _num_bytes(messages: list[Message]) -> int:
    return sum(len(message.get("body", b"")) for message in messages)


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


def _again(messages: list[Message], receive: Receive) -> Receive:
    """`receive`, with the messages before the others that were taken already."""
    taken = iter(messages)

    async def replayed() -> Message:
        message = next(taken, None)
        return await receive() if message is None else message

    return replayed
