"""A replica's own HTTP server: uvicorn, which asks for the short answer before it makes a task of a request.

A request that has come whole, headers and body, is answered in the callback that read it and written in one piece.
Every other one, and all that the short way leaves, goes on as uvicorn has it, the bytes that were held included.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mlcluster.serve.front_only import FrontOnly, bears_secret
from mlcluster.serve.short_way.answers import FastAnswer, FastAnswers
from mlcluster.serve.short_way.path import FastPath


class ShortcutProtocol(HttpToolsProtocol):
    """One connection; a subclass of it has the `answers`."""

    answers: ClassVar[FastAnswers]
    paths: ClassVar[dict[bytes, str]]
    front_secret: ClassVar[str | None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._held: list[bytes] | None = None
        """The body so far, of a request that uvicorn has not heard of."""
        self._started = 0.0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._held is not None and self.parser is not None and not self.transport.is_closing():
            self._let_go()  # the rest is still on its way, which may take its time

    def on_headers_complete(self) -> None:
        if self._is_first_in_line() and self.url in self.paths and self.parser.get_method() == b"POST":
            self._held, self._started = [], time.perf_counter()
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._held is None:
            super().on_body(body)
        else:
            self._held.append(body)

    def on_message_complete(self) -> None:
        if self._held is not None:
            answer = self._answer(b"".join(self._held))
            if answer is not None:
                self._held = None
                self.transport.write(self._written(answer))
                self.on_response_complete()
                return
            self._let_go()
        super().on_message_complete()

    def _is_first_in_line(self) -> bool:
        """Whether nothing is being answered on this connection, and this request may keep it open."""
        parser = self.parser
        return (
            (self.cycle is None or self.cycle.response_complete)
            and not self.expect_100_continue
            and not self.flow.write_paused
            and not parser.should_upgrade()
            and parser.should_keep_alive()
            and parser.get_http_version() == "1.1"
        )

    def _answer(self, body: bytes) -> FastAnswer | None:
        path, headers = self.paths[self.url], dict(self.headers)
        if len(headers) != len(self.headers) or not self.answers.may_answer(path, headers):
            return None
        if self.front_secret is not None and not bears_secret(headers, self.front_secret):
            return None
        return self.answers.answer(path, headers, body, self._started)

    def _written(self, answer: FastAnswer) -> bytes:
        parts = [b"HTTP/1.1 200 OK\r\n"]
        for name, value in (*self.server_state.default_headers, *answer.headers):
            parts += (name, b": ", value, b"\r\n")
        parts += (b"\r\n", answer.content)
        return b"".join(parts)

    def _let_go(self) -> None:
        """Tells uvicorn what was held back."""
        held, self._held = self._held, None
        super().on_headers_complete()
        for part in held or ():
            super().on_body(part)


def server_config(app: ASGIApp, *, front_secret: str | None = None, **settings: Any) -> uvicorn.Config:
    """How uvicorn serves the application of `build_app`; `settings` are of `uvicorn.Config`.

    With a `front_secret`, it answers only the front door that bears it.
    """
    protocol: Any = "httptools"
    if isinstance(app, FastPath):
        paths = {path.encode("ascii"): path for path in app.answers.paths}
        members = {"answers": app.answers, "paths": paths, "front_secret": front_secret}
        protocol = type("Shortcut", (ShortcutProtocol,), members)
    if front_secret is not None:
        app = FrontOnly(app, front_secret)
    settings = {"access_log": False, "server_header": False, "loop": "uvloop", "ws": "none", **settings}
    return uvicorn.Config(app, http=protocol, **settings)
