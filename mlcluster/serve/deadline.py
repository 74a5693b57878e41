"""How long a request is willing to wait, and whether that has passed.

A client says it in milliseconds in `x-request-timeout-ms`, or in microseconds in the parameter `timeout` of the Open
Inference Protocol, as Triton has it; a mesh of Envoys says it in `x-envoy-expected-rq-timeout-ms`. The shortest counts,
and never more than the server's own. It runs from when the endpoint had the request's headers: the front says when that
was, so that what was waited in its queue counts too (the clocks of the machines have to agree).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from mlcluster.serve.problem import RequestError, malformed

TIMEOUTS = (b"x-request-timeout-ms", b"x-envoy-expected-rq-timeout-ms")
RECEIVED = b"x-mlcluster-received-ms"
"""Milliseconds since 1970; the front writes it."""
_MAX_DIGITS = 15


class Deadline(NamedTuple):
    """By when an answer has to be begun; a `timeout_seconds` that the request says later is counted from `received`."""

    received: float
    """Of `time.perf_counter`."""
    timeout_seconds: float

    @classmethod
    def of(cls, headers: Mapping[bytes, bytes], *, started: float, default_seconds: float) -> Deadline:
        """That of a request with these headers, which came to this process at `started` (`time.perf_counter`).

        Raises:
            RequestError: 400, a header is no whole number of milliseconds above 0.
        """
        timeout_seconds = default_seconds
        for name in TIMEOUTS:
            if name in headers:
                timeout_seconds = min(timeout_seconds, _milliseconds(name, headers[name]) / 1_000)
        return cls(started - _seconds_before(headers.get(RECEIVED)), timeout_seconds)

    def within(self, timeout_seconds: float) -> Deadline:
        """This, or sooner."""
        return Deadline(self.received, min(self.timeout_seconds, timeout_seconds))

    @property
    def has_passed(self) -> bool:
        return time.perf_counter() - self.received > self.timeout_seconds

    def check(self) -> None:
        """Nothing while there is time.

        Raises:
            RequestError: 504, the time has passed.
        """
        if self.has_passed:
            raise RequestError(
                504,
                f"The request's {self.timeout_seconds * 1_000:g} ms had passed before the model was asked; "
                "allow more, or try again when the endpoint is less busy.",
            )


def names_deadline(headers: Mapping[bytes, bytes]) -> bool:
    """Whether there is a header that a deadline is made of."""
    return RECEIVED in headers or TIMEOUTS[0] in headers or TIMEOUTS[1] in headers


def _milliseconds(name: bytes, sent: bytes) -> int:
    if not sent.isdigit() or len(sent) > _MAX_DIGITS or int(sent) == 0:
        shown = sent[:40].decode("latin-1")
        raise malformed(f"{name.decode()} = {shown!r} is no time; send a whole number of milliseconds above 0.")
    return int(sent)


def _seconds_before(received: bytes | None) -> float:
    """How long ago the front had the request; 0 where it does not say, or its clock is ahead."""
    if received is None or not received.isdigit() or len(received) > _MAX_DIGITS:
        return 0.0
    seconds = time.time() - int(received) / 1_000
    return seconds if seconds > 0 else 0.0
