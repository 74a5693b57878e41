"""What the front door refuses, in the words and the form of the replicas: problem documents that name the request."""

from __future__ import annotations

from mlcluster.serve.front.haproxy_requests import TRACE_MEMBERS
from mlcluster.serve.problem import MEDIA_TYPE, RequestError

_ERRORS = {
    400: "The request is no valid HTTP.",
    408: "The request did not arrive in time; send it faster, or in parts.",
    502: "The model's replica answered nothing that is HTTP; try again in a second.",
    503: "No replica can take the request now; try again in a second.",
    504: "The model's replica did not answer in time; try again, with fewer rows.",
}


def error_rules() -> list[str]:
    """What is said where HAProxy itself ends a request."""
    return [_error(status, detail) for status, detail in _ERRORS.items()]


def _error(status: int, detail: str) -> str:
    retry = " hdr retry-after 1" if status in (502, 503) else ""
    return f"  http-error status {status} {_content(status, detail)}{retry}"


def returned(status: int, detail: str) -> str:
    """The action that refuses a request, with a reason."""
    return f"return status {status} {_content(status, detail)}"


def _content(status: int, detail: str) -> str:
    body = RequestError(status, detail).encoded(TRACE_MEMBERS).decode().replace("'", "\\u0027")
    return f"content-type {MEDIA_TYPE} lf-string '{body}'"
