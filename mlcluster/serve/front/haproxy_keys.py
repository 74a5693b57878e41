"""API keys at the front door: which requests ask for one, and how many each may make.

The secrets are not there, but their hashes; and no secret goes on to a replica.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

KEY_MAP = "keys.map"
"""SHA-256 of a key -> its name."""
RATE_MAP = "rates.map"
"""Name of a key -> requests that may come within a second."""
QUOTA_MAP = "quotas.map"
"""Name of a key -> within a day."""
COUNTS_SOCKET = "counts.sock"
"""Where an HAProxy that takes over is told the counts of keys by the one that gives way."""
LOCAL_PEER = "front"


def counts(file: Callable[[str], str]) -> list[str]:
    """Requests by the name of their key; `file` gives the path of a file of the front's folder.

    The peer is the process itself: at a reload the former one finds the new one there, and tells it what it has
    counted. In its first five seconds it waits to be told, and tells nothing itself.
    """
    return [
        "peers counts",
        f"  bind unix@{file(COUNTS_SOCKET)} mode 600",
        f"  server {LOCAL_PEER}",
        "backend rates",
        "  stick-table type string len 64 size 10k expire 10s store http_req_rate(1s) peers counts",
        "backend quotas",
        "  stick-table type string len 64 size 10k expire 25h store http_req_rate(24h) peers counts",
    ]


def key_rules(file: Callable[[str], str], needed: Sequence[str], refusal: Callable[[int, str], str]) -> list[str]:
    """Of a frontend: requests for which one of `needed` holds ask for a key; `refusal`, of a status and a reason, says
    that it is not there, or has had its requests; `file` as above. The page, the documentation and the
    health ask for none."""
    unknown = "The request bears no key that is known here; send `authorization: Bearer KEY`."
    fast = "The key has had its requests of this second; try again in one."
    spent = "The key has had its requests of the last 24 hours; try again later, or ask for a larger quota."
    return [
        *(f"  acl needs_key {condition}" for condition in needed),
        "  http-request set-var(txn.secret) req.hdr(x-api-key)",
        "  http-request set-var(txn.secret) req.hdr(authorization),field(2,' ') "
        "if { req.hdr(authorization) -m beg -i 'bearer ' }",
        f"  http-request set-var(txn.key) var(txn.secret),sha2(256),hex,lower,map({file(KEY_MAP)})",
        # No secret goes farther than this.
        "  http-request unset-var(txn.secret)",
        "  http-request del-header authorization",
        "  http-request del-header x-api-key",
        f"  http-request {refusal(401, unknown)} hdr www-authenticate Bearer if needs_key !{{ var(txn.key) -m found }}",
        "  http-request track-sc0 var(txn.key) table rates if needs_key",
        "  http-request track-sc1 var(txn.key) table quotas if needs_key",
        *_limit("rate", 0, file(RATE_MAP), refusal(429, fast) + " hdr retry-after 1"),
        *_limit("quota", 1, file(QUOTA_MAP), refusal(429, spent) + " hdr retry-after 3600"),
    ]


def _limit(name: str, counter: int, limits: str, refusal: str) -> list[str]:
    """`refusal` where a counter is above the key's own limit; a key that has none is never refused."""
    return [
        f"  http-request set-var(txn.{name}) var(txn.key),map_str_int({limits},{2**31 - 1})",
        f"  http-request set-var(txn.over_{name}) sc_http_req_rate({counter}),sub(txn.{name})",
        f"  http-request {refusal} if needs_key {{ var(txn.over_{name}) -m int gt 0 }}",
    ]
