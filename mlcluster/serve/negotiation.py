"""In which form an answer is wanted, by the request's `accept` (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from mlcluster.serve.problem import RequestError, shorten

Form = Literal["json", "arrow"]
_MEDIA_TYPES: dict[Form, tuple[str, ...]] = {
    # Tensors as bytes follow JSON where the request asks for them.
    "json": ("application/json", "application/octet-stream"),
    "arrow": ("application/vnd.apache.arrow.stream",),
}


@lru_cache(maxsize=256)
def wanted_form(accept: str) -> Form | None:
    """The form that is liked best, JSON where all are liked alike; None where `accept` takes none of them.

    An empty one takes any.
    """
    if not accept.strip():
        return "json"
    ranges = dict(map(_range, accept.split(",")))
    liked = {form: max(_liking(kind, ranges) for kind in kinds) for form, kinds in _MEDIA_TYPES.items()}
    best = max(liked, key=lambda form: liked[form])
    return best if liked[best][0] > 0 else None


def wants_arrow(accept: str) -> bool:
    """Whether the answer is to be an Arrow stream, and not JSON.

    Raises:
        RequestError: 406, neither is accepted.
    """
    form = wanted_form(accept)
    if form is None:
        offered = ", ".join(kind for kinds in _MEDIA_TYPES.values() for kind in kinds)
        raise RequestError(406, f"The answer cannot come as {shorten(accept)}; accept one of {offered}.")
    return form == "arrow"


def _range(text: str) -> tuple[str, float]:
    kind, *parameters = text.split(";")
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            quality = _quality(value.strip())
    return kind.strip().lower(), quality


def _quality(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0


def _liking(kind: str, ranges: dict[str, float]) -> tuple[float, int]:
    """How much a media type is liked, and how exactly it was named."""
    for exactness, pattern in ((2, kind), (1, f"{kind.partition('/')[0]}/*"), (0, "*/*")):
        if pattern in ranges:
            return ranges[pattern], exactness
    return 0.0, 0
