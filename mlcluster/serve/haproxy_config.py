"""The configuration of the front door: an HAProxy before the replicas, as text made from a record.

Pure, so that `haproxy -c` can be asked about it in a test. What it is built to do: hold a request until it has arrived
whole, so that a slow upload takes no replica's place and a request whose replica dies is sent again to another one;
send to Ray Serve's own proxy (the `backup`) what no replica can take, since that one waits for a replica and starts it.
Which application of Ray Serve that is stands in a map, so that a new version takes over without a reload.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlcluster.serve.front_only import FRONT_HEADER
from mlcluster.serve.haproxy_requests import TRACE_MEMBERS, deadline_rules, naming_rules, renaming_rules
from mlcluster.serve.problem import MEDIA_TYPE, RequestError
from mlcluster.serve.readiness import READY_PATH

ADMIN_SOCKET = "admin.sock"
WAITING_SOCKET = "waiting.sock"
COUNTS_SOCKET = "counts.sock"
"""Where an HAProxy that takes over is told the counts of keys by the one that gives way."""
APP_MAP = "app.map"
KEY_MAP = "keys.map"
"""SHA-256 of a key -> its name."""
RATE_MAP = "rates.map"
"""Name of a key -> requests that may come within a second."""
QUOTA_MAP = "quotas.map"
"""Name of a key -> within a day."""
CERTIFICATE = "tls.pem"
FRONT_METRICS = "/metrics/front"
"""The front's own counts, of all replicas, by HAProxy's exporter for Prometheus."""
BACKEND = "model"
FULL = "All replicas have all the requests that they can hold; try again in a second."
GRPC_BACKEND = "grpc"
APP_KEY = "app"
"""The one key of the map: which application of Ray Serve the waiting room asks."""
_LOCAL_PEER = "front"
_NEED_A_KEY = ("method POST", f"path /metrics {FRONT_METRICS}")
_BUFFER_BYTES = 128 * 1024
"""Of a request, what can be sent again to another replica: 16 KiB, the default, is a batch of a hundred rows."""
_KEPT_SECONDS = 60.0
"""For the next request on a connection that is kept."""
_RETRIED = "conn-failure empty-response junk-response 500 502 503"
"""Predictions change nothing, so they may be repeated. 500: what Ray Serve's proxy says of a replica that has died. An
answer that comes too late is not asked for again: the time that the request had is over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontLimits:
    """What the front takes upon itself."""

    max_body_bytes: int = 16 * 2**20
    header_seconds: float = 10.0
    """For a request's headers to arrive, and again for the first 128 KiB of its body."""
    idle_seconds: float = 20.0
    """For the next byte of a body, or of an answer being read."""
    answer_seconds: float = 60.0
    """For an answer to begin; above the cold start, since a request that finds no replica waits for one."""
    queue_seconds: float = 10.0
    """For a place at a replica; after it 503."""
    max_per_replica: int = 256
    max_queued: int = 256
    """Requests that wait for a place; one more is answered 429."""
    num_retries: int = 3
    max_connections: int = 4_000
    num_threads: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where something listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontConfig:
    """One front door."""

    bind: str
    """An address `host:port`, or `fd@N` for a socket that the process inherits."""
    folder: str
    """Where the sockets and the maps are; for its owner alone."""
    slots: Sequence[Address | None]
    """Replicas by slot; None is one that is free."""
    waiting_room: Address
    """Ray Serve's own proxy, where a request waits that no replica can take."""
    limits: FrontLimits = FrontLimits()
    asks_for_keys: bool = False
    has_certificate: bool = False
    replica_secret: str = ""
    """What each request to a replica bears; empty where they ask for none."""

    def file(self, name: str) -> str:
        """The path of a file of the folder."""
        return f"{self.folder}/{name}"


def slot_name(index: int) -> str:
    """Of the server in HAProxy."""
    return f"replica{index}"


def haproxy_config(config: FrontConfig) -> str:
    """The text of the configuration file."""
    parts = (
        _global(config),
        _defaults(config.limits),
        _frontend(config),
        _backend(config),
        _waiting_room(config),
        _counts(config) if config.asks_for_keys else (),
    )
    return "\n".join([*(line for part in parts for line in part), ""])


def _global(config: FrontConfig) -> list[str]:
    return [
        "global",
        "  log stderr format raw local0 warning",
        f"  maxconn {config.limits.max_connections}",
        f"  nbthread {config.limits.num_threads}",
        f"  stats socket {config.file(ADMIN_SOCKET)} mode 600 level admin",
        f"  localpeer {_LOCAL_PEER}",
        f"  hard-stop-after {_ms(config.limits.answer_seconds + _KEPT_SECONDS)}",
        f"  tune.bufsize {_BUFFER_BYTES}",
        "  ssl-default-bind-options ssl-min-ver TLSv1.2",
    ]


def _defaults(limits: FrontLimits) -> list[str]:
    return [
        "defaults",
        "  mode http",
        "  log global",
        "  option dontlognull",
        f"  timeout http-request {_ms(limits.header_seconds)}",
        f"  timeout client {_ms(limits.idle_seconds)}",
        f"  timeout http-keep-alive {_ms(_KEPT_SECONDS)}",
        # One that gives way to another process answers once more on a connection that it keeps, rather than cut it.
        "  option idle-close-on-response",
        "  timeout connect 1s",
        "  timeout check 5s",
        f"  timeout queue {_ms(min(limits.queue_seconds, limits.answer_seconds))}",
        f"  timeout server {_ms(limits.answer_seconds)}",
        *(_refusal(status, detail) for status, detail in _REFUSALS.items()),
    ]


def _frontend(config: FrontConfig) -> list[str]:
    limits = config.limits
    too_large = f"The body is above {limits.max_body_bytes} bytes; send the rows in several requests."
    tls = f" ssl crt {config.file(CERTIFICATE)} alpn h2,http/1.1" if config.has_certificate else ""
    return [
        "frontend door",
        f"  bind {config.bind}{tls}",
        *naming_rules(),
        *(key_rules(config, _NEED_A_KEY, _return) if config.asks_for_keys else ()),
        f"  http-request use-service prometheus-exporter if {{ path {FRONT_METRICS} }}",
        f"  http-request {_return(413, too_large)} if {{ req.hdr_val(content-length) gt {limits.max_body_bytes} }}",
        f"  http-request wait-for-body time {_ms(limits.header_seconds)} if METH_POST",
        # After the wait: requests that come at once would all be asked before the first of them takes its place.
        f"  http-request {_return(429, FULL)} hdr retry-after 1 if METH_POST {is_full(BACKEND, limits)}",
        f"  default_backend {BACKEND}",
    ]


def key_rules(config: FrontConfig, needed: Sequence[str], refusal: Callable[[int, str], str]) -> list[str]:
    """Of a frontend: requests for which one of `needed` holds ask for a key; `refusal`, of a status and a reason, says
    that it is not there, or has had its requests. The page, the documentation and the health ask for none."""
    unknown = "The request bears no key that is known here; send `authorization: Bearer KEY`."
    fast = "The key has had its requests of this second; try again in one."
    spent = "The key has had its requests of the last 24 hours; try again later, or ask for a larger quota."
    return [
        *(f"  acl needs_key {condition}" for condition in needed),
        "  http-request set-var(txn.secret) req.hdr(x-api-key)",
        "  http-request set-var(txn.secret) req.hdr(authorization),field(2,' ') "
        "if { req.hdr(authorization) -m beg -i 'bearer ' }",
        f"  http-request set-var(txn.key) var(txn.secret),sha2(256),hex,lower,map({config.file(KEY_MAP)})",
        # No secret goes farther than this.
        "  http-request unset-var(txn.secret)",
        "  http-request del-header authorization",
        "  http-request del-header x-api-key",
        f"  http-request {refusal(401, unknown)} hdr www-authenticate Bearer if needs_key !{{ var(txn.key) -m found }}",
        "  http-request track-sc0 var(txn.key) table rates if needs_key",
        "  http-request track-sc1 var(txn.key) table quotas if needs_key",
        *_limit("rate", 0, config.file(RATE_MAP), refusal(429, fast) + " hdr retry-after 1"),
        *_limit("quota", 1, config.file(QUOTA_MAP), refusal(429, spent) + " hdr retry-after 3600"),
    ]


def secret_rules(config: FrontConfig) -> list[str]:
    """Of a backend: by what its replicas know the front."""
    return [f"  http-request set-header {FRONT_HEADER} {config.replica_secret}"] if config.replica_secret else []


def _limit(name: str, counter: int, limits: str, refusal: str) -> list[str]:
    """`refusal` where a counter is above the key's own limit; a key that has none is never refused."""
    return [
        f"  http-request set-var(txn.{name}) var(txn.key),map_str_int({limits},{2**31 - 1})",
        f"  http-request set-var(txn.over_{name}) sc_http_req_rate({counter}),sub(txn.{name})",
        f"  http-request {refusal} if needs_key {{ var(txn.over_{name}) -m int gt 0 }}",
    ]


def _counts(config: FrontConfig) -> list[str]:
    """Requests by the name of their key. The peer is the process itself: at a reload the former one finds the new one
    there, and tells it what it has counted. In its first five seconds it waits to be told, and tells nothing itself."""
    return [
        "peers counts",
        f"  bind unix@{config.file(COUNTS_SOCKET)} mode 600",
        f"  server {_LOCAL_PEER}",
        "backend rates",
        "  stick-table type string len 64 size 10k expire 10s store http_req_rate(1s) peers counts",
        "backend quotas",
        "  stick-table type string len 64 size 10k expire 25h store http_req_rate(24h) peers counts",
    ]


def is_full(backend: str, limits: FrontLimits) -> str:
    """A condition: no replica has a place, and no more may wait for one."""
    return f"{{ be_conn_free({backend}) le 0 }} {{ queue({backend}) ge {limits.max_queued} }}"


def balance_rules(limits: FrontLimits, *, retried: str) -> list[str]:
    """Of a backend: to the replica with the fewest requests, and to another one where it dies."""
    return [
        "  balance leastconn",
        "  option redispatch 1",
        f"  retries {limits.num_retries}",
        f"  retry-on {retried}",
        # A machine that vanishes closes nothing: without these its requests would wait for the whole timeout.
        "  option srvtcpka",
        "  srvtcpka-idle 2s",
        "  srvtcpka-intvl 1s",
        "  srvtcpka-cnt 3",
    ]


def server_rules(limits: FrontLimits, slots: Sequence[Address | None], *, protocol: str = "") -> list[str]:
    """Of a backend: its replicas by slot, looked at four times a second and at each request."""
    return [
        f"  default-server{protocol} maxconn {limits.max_per_replica} inter 250ms fall 2 rise 1 "
        "check observe layer4 error-limit 1 on-error mark-down",
        *(
            f"  server {slot_name(index)} {'127.0.0.1:9 disabled' if address is None else address}"
            for index, address in enumerate(slots)
        ),
    ]


def _backend(config: FrontConfig) -> list[str]:
    limits = config.limits
    secret = f" hdr {FRONT_HEADER} {config.replica_secret}" if config.replica_secret else ""
    return [
        f"backend {BACKEND}",
        *secret_rules(config),
        *balance_rules(limits, retried=_RETRIED),
        *deadline_rules(limits.answer_seconds),
        "  option httpchk",
        f"  http-check send meth GET uri {READY_PATH} ver HTTP/1.1 hdr host replica{secret}",
        "  http-check expect status 200",
        *server_rules(limits, config.slots),
        f"  server waiting-room unix@{config.file(WAITING_SOCKET)} no-check maxconn {limits.max_connections} backup",
    ]


def _waiting_room(config: FrontConfig) -> list[str]:
    return [
        "frontend waiting",
        f"  bind unix@{config.file(WAITING_SOCKET)} mode 600",
        f"  http-request del-header {FRONT_HEADER}",
        *renaming_rules(),
        f"  http-request set-path %[str({APP_KEY}),map({config.file(APP_MAP)})]%[path]",
        "  default_backend serve",
        "backend serve",
        f"  server proxy {config.waiting_room} no-check maxconn {config.limits.max_connections}",
    ]


_REFUSALS = {
    400: "The request is no valid HTTP.",
    408: "The request did not arrive in time; send it faster, or in parts.",
    502: "The model's replica answered nothing that is HTTP; try again in a second.",
    503: "No replica can take the request now; try again in a second.",
    504: "The model's replica did not answer in time; try again, with fewer rows.",
}


def _refusal(status: int, detail: str) -> str:
    retry = " hdr retry-after 1" if status in (502, 503) else ""
    return f"  http-error status {status} {_content(status, detail)}{retry}"


def _return(status: int, detail: str) -> str:
    return f"return status {status} {_content(status, detail)}"


def _content(status: int, detail: str) -> str:
    body = RequestError(status, detail).encoded(TRACE_MEMBERS).decode().replace("'", "\\u0027")
    return f"content-type {MEDIA_TYPE} lf-string '{body}'"


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
