"""The front door for gRPC: a port of its own in the same HAProxy, and the replicas' gRPC sockets behind it.

HTTP/2 on both sides, a stream at a time: each call may go to another replica, and one whose replica dies before it has
answered is sent again to another, since it was taken whole (32 KiB) before. There is no waiting room: Ray Serve does
not start replicas for calls that it does not see.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlcluster.serve.front.haproxy_config import (
    CERTIFICATE,
    FULL,
    GRPC_BACKEND,
    Address,
    FrontConfig,
    balance_rules,
    is_full,
    secret_rules,
    server_rules,
)
from mlcluster.serve.front.haproxy_keys import key_rules
from mlcluster.serve.front.haproxy_requests import naming_rules

_CODES = {401: 16, 429: 8, 408: 4, 502: 14, 503: 14, 504: 4}
"""gRPC's codes by the status that HTTP would have: unauthenticated, exhausted, too late, unavailable."""
_RETRIED = "conn-failure empty-response junk-response"
_ERRORS = {
    408: "The call did not arrive in time; send it faster.",
    502: "The replica answered nothing that is gRPC; try again in a second.",
    503: "No replica can take the call now; try again in a second.",
    504: "The replica did not answer in time; try again, with fewer rows.",
}


def grpc_config(config: FrontConfig, *, public: Address, slots: Sequence[Address | None]) -> str:
    """What stands in the configuration file beside HTTP's part; `slots` are the replicas' gRPC sockets."""
    return "\n".join([*_frontend(config, public), *_backend(config, slots), ""])


def _frontend(config: FrontConfig, public: Address) -> list[str]:
    limits = config.limits
    how = f"ssl crt {config.file(CERTIFICATE)} alpn h2" if config.has_certificate else "proto h2"
    keys = key_rules(config.file, ("path_end /ModelInfer",), _return) if config.asks_for_keys else ()
    return [
        "frontend grpc-door",
        f"  bind {public} {how}",
        *naming_rules(),
        "  http-after-response set-status 200 if { res.hdr(grpc-status) -m found }",
        *keys,
        f"  http-request wait-for-body time {round(limits.header_seconds * 1_000)}ms if METH_POST",
        f"  http-request {_return(429, FULL)} if {is_full(GRPC_BACKEND, limits)}",
        *_errors(),
        f"  default_backend {GRPC_BACKEND}",
    ]


def _backend(config: FrontConfig, slots: Sequence[Address | None]) -> list[str]:
    limits = config.limits
    return [
        f"backend {GRPC_BACKEND}",
        *secret_rules(config),
        *balance_rules(limits, retried=_RETRIED),
        *_errors(),
        *server_rules(limits, slots, protocol=" proto h2"),
    ]


def _errors() -> list[str]:
    return [f"  http-error status {status} {_said(status, detail)}" for status, detail in _ERRORS.items()]


def _return(status: int, detail: str) -> str:
    """gRPC says what went wrong in headers of a response that is 200 for HTTP."""
    return f"return status 200 {_said(status, detail)}"


def _said(status: int, detail: str) -> str:
    return f"hdr grpc-status {_CODES[status]} hdr grpc-message '{detail}'"
