"""Which request this is, for logs of ours and of others: its `x-request-id`, and its place in a trace.

A trace is that of W3C Trace Context (https://www.w3.org/TR/trace-context/): `traceparent` is read by its rules. One
that is missing, malformed or given twice begins a new trace; the answer bears this hop's own: the same trace id,
another parent id. No span is sent anywhere, so that a trace which begins here is not sampled. Behind the front door it
is the front that answers so (`front/haproxy_requests.py`), and a replica takes the trace that it is given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from mlcluster.serve.random_bytes import RandomBytes

REQUEST_ID = b"x-request-id"
TRACEPARENT = b"traceparent"
_RANDOM = RandomBytes()
_PLAIN_ID = re.compile(rb"^[!-~]{1,128}$")
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_LENGTH = 55
"""Of version 00; a later one may have more behind it, after another hyphen."""
_SAMPLED = 1
"""The flag of version 00; a hop passes on none that it does not know."""


class RequestIds(NamedTuple):
    """What one request is called."""

    request_id: bytes
    traceparent: bytes
    """Of this hop."""

    @classmethod
    def of(cls, headers: Mapping[bytes, bytes]) -> RequestIds:
        """Of a request with these headers."""
        return cls(plain_id(headers.get(REQUEST_ID)), this_hop(headers.get(TRACEPARENT)))

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """For the answer."""
        return [(REQUEST_ID, self.request_id), (TRACEPARENT, self.traceparent)]

    @property
    def members(self) -> dict[str, str]:
        """For a record, or the body of a refusal."""
        return {"request_id": self.request_id.decode("ascii"), "trace_id": self.traceparent[3:35].decode("ascii")}


def plain_id(sent: bytes | None) -> bytes:
    """The client's own id if it is plain text, else a fresh one."""
    if sent is not None and _PLAIN_ID.match(sent):
        return sent
    return _RANDOM.take(16).hex().encode("ascii")


def this_hop(sent: bytes | None) -> bytes:
    """The `traceparent` of this hop, version 00, for a request that bears `sent`."""
    if sent is None or not _is_valid(sent):
        drawn = _RANDOM.take(24).hex()
        return f"00-{drawn[:32]}-{drawn[32:]}-00".encode("ascii")
    flags = b"-01" if int(sent[53:_LENGTH], 16) & _SAMPLED else b"-00"
    return b"00" + sent[2:36] + _RANDOM.take(8).hex().encode("ascii") + flags


def _is_valid(traceparent: bytes) -> bool:
    match = _TRACEPARENT.match(traceparent)
    if match is None or len(traceparent) == _LENGTH:
        return match is not None
    return not traceparent.startswith(b"00") and traceparent[_LENGTH:].startswith(b"-")
