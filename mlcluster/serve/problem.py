"""How a request is refused: one body that readers of four conventions understand.

RFC 9457 gives `type`, `title`, `status` and `detail`; the Open Inference Protocol reads `error`; MLflow's clients read
`error_code` and `message`; a person reads `field`. All stand in every refusal, so no route needs its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

MEDIA_TYPE = "application/problem+json"
_MLFLOW_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    404: "RESOURCE_DOES_NOT_EXIST",
    405: "BAD_REQUEST",
    406: "BAD_REQUEST",
    408: "REQUEST_TIMEOUT",
    413: "BAD_REQUEST",
    415: "BAD_REQUEST",
    422: "INVALID_PARAMETER_VALUE",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    502: "TEMPORARILY_UNAVAILABLE",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "TEMPORARILY_UNAVAILABLE",
}


class RequestError(Exception):
    """A refusal: `status` 4xx, what is wrong in `detail`, and the input `field` that it is about, if one is."""

    def __init__(
        self, status: int, detail: str, *, field: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.headers: Mapping[str, str] = headers or {}

    def body(self) -> dict[str, Any]:
        """The members of the answer; see the module."""
        title = HTTPStatus(self.status).phrase
        members: dict[str, Any] = {
            "type": f"urn:mlcluster:{title.lower().replace(' ', '-')}",
            "title": title,
            "status": self.status,
            "detail": self.detail,
            "error": self.detail,
            "error_code": _MLFLOW_CODES.get(self.status, "BAD_REQUEST"),
            "message": self.detail,
        }
        return members if self.field is None else members | {"field": self.field}

    def encoded(self, more: Mapping[str, str] | None = None) -> bytes:
        """The answer, with `more` members beside those of `body`."""
        # ASCII: a lone surrogate in a client's field name has no UTF-8.
        return json.dumps(self.body() | dict(more or {})).encode("ascii")


def malformed(detail: str) -> RequestError:
    """400: the request cannot be read."""
    return RequestError(400, detail)


def invalid(name: str, problem: str) -> RequestError:
    """422: the request can be read, but member or column `name` has `problem`."""
    shown = shorten(name)
    return RequestError(422, f"{shown} {problem}", field=shown)


def shorten(text: str, limit: int = 80) -> str:
    """The text, cut to what an error message can carry."""
    return text if len(text) <= limit else text[: limit - 3] + "..."
