"""The configuration of the front door: an HAProxy before the replicas, as text made from a record.

Pure, so that `haproxy -c` can be asked about it in a test. What it is built to do: hold a request until it has arrived
whole, so that a slow upload takes no replica's place and a request whose replica dies is sent again to another one;
send to Ray Serve's own proxy (the `backup`) what no replica can take, since that one waits for a replica and starts it.
Which application of Ray Serve that is stands in a map, so that a new version takes over without a reload.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlcluster.serve.front.haproxy_keys import LOCAL_PEER, counts, key_rules
from mlcluster.serve.front.haproxy_refusals import error_rules, returned
from mlcluster.serve.front.haproxy_requests import OTHER, choosing_rules, deadline_rules, naming_rules, renaming_rules
from mlcluster.serve.front_only import FRONT_HEADER
from mlcluster.serve.readiness import READY_PATH

ADMIN_SOCKET = "admin.sock"
WAITING_SOCKET = "waiting.sock"
APP_MAP = "app.map"
CERTIFICATE = "tls.pem"
FRONT_METRICS = "/metrics/front"
"""The front's own counts, of all replicas, by HAProxy's exporter for Prometheus."""
BACKEND = "model"
FULL = "All replicas have all the requests that they can hold; try again in a second."
GRPC_BACKEND = "grpc"
OTHERS_BACKEND = "others"
OTHERS_MAP = "others.map"
"""What a request calls a model beside the own one -> the model and version that it means."""
APP_KEY = "app"
"""The one key of the map: which application of Ray Serve the waiting room asks."""
_NEED_A_KEY = ("method POST", f"path /metrics {FRONT_METRICS}")
_BUFFER_BYTES = 32 * 1024
"""Of a request, what can be sent again to another replica. HAProxy copies a whole buffer for each request, however
short it is: 128 KiB cost 30 CPU-microseconds, a seventh of all that an answer takes, and 32 KiB 2 more than 16."""
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
    """For a request's headers to arrive, and again for the first 32 KiB of its body."""
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
    has_others: bool = False
    """Whether requests for other models than the own one are told apart, by the map of their names."""
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
        counts(config.file) if config.asks_for_keys else (),
    )
    return "\n".join([*(line for part in parts for line in part), ""])


def _global(config: FrontConfig) -> list[str]:
    return [
        "global",
        "  log stderr format raw local0 warning",
        f"  maxconn {config.limits.max_connections}",
        f"  nbthread {config.limits.num_threads}",
        f"  stats socket {config.file(ADMIN_SOCKET)} mode 600 level admin",
        f"  localpeer {LOCAL_PEER}",
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
        *error_rules(),
    ]


def _frontend(config: FrontConfig) -> list[str]:
    limits = config.limits
    too_large = f"The body is above {limits.max_body_bytes} bytes; send the rows in several requests."
    tls = f" ssl crt {config.file(CERTIFICATE)} alpn h2,http/1.1" if config.has_certificate else ""
    return [
        "frontend door",
        f"  bind {config.bind}{tls}",
        *naming_rules(),
        *(choosing_rules(config.file(OTHERS_MAP)) if config.has_others else ()),
        *(key_rules(config.file, _NEED_A_KEY, returned) if config.asks_for_keys else ()),
        f"  http-request use-service prometheus-exporter if {{ path {FRONT_METRICS} }}",
        f"  http-request {returned(413, too_large)} if {{ req.hdr_val(content-length) gt {limits.max_body_bytes} }}",
        f"  http-request wait-for-body time {_ms(limits.header_seconds)} if METH_POST",
        # After the wait: requests that come at once would all be asked before the first of them takes its place.
        *(f"  http-request {returned(429, FULL)} hdr retry-after 1 if METH_POST {full}" for full in _is_full(config)),
        *((f"  use_backend {OTHERS_BACKEND} if {OTHER}",) if config.has_others else ()),
        f"  default_backend {BACKEND}",
    ]


def secret_rules(config: FrontConfig) -> list[str]:
    """Of a backend: by what its replicas know the front."""
    return [f"  http-request set-header {FRONT_HEADER} {config.replica_secret}"] if config.replica_secret else []


def is_full(backend: str, limits: FrontLimits) -> str:
    """A condition: no replica has a place, and no more may wait for one."""
    return f"{{ be_conn_free({backend}) le 0 }} {{ queue({backend}) ge {limits.max_queued} }}"


def _is_full(config: FrontConfig) -> list[str]:
    """Conditions, one a backend, of the requests that go there."""
    limits = config.limits
    if not config.has_others:
        return [is_full(BACKEND, limits)]
    return [f"!{OTHER} {is_full(BACKEND, limits)}", f"{OTHER} {is_full(OTHERS_BACKEND, limits)}"]


def balance_rules(limits: FrontLimits, *, retried: str, choice: Sequence[str] = ("balance leastconn",)) -> list[str]:
    """Of a backend: to which replica, by default the one with the fewest requests, and to another one where it dies."""
    return [
        *(f"  {line}" for line in choice),
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
    secret = f" hdr {FRONT_HEADER} {config.replica_secret}" if config.replica_secret else ""
    return [
        f"backend {BACKEND}",
        *model_rules(config),
        "  option httpchk",
        f"  http-check send meth GET uri {READY_PATH} ver HTTP/1.1 hdr host replica{secret}",
        "  http-check expect status 200",
        *server_rules(config.limits, config.slots),
        waiting_room_server(config),
    ]


def model_rules(config: FrontConfig, **choice: Sequence[str]) -> list[str]:
    """Of a backend of replicas that speak HTTP; `choice` is that of `balance_rules`."""
    limits = config.limits
    return [
        *secret_rules(config),
        *balance_rules(limits, retried=_RETRIED, **choice),
        *deadline_rules(limits.answer_seconds),
    ]


def waiting_room_server(config: FrontConfig) -> str:
    """The last one of such a backend."""
    room = f"unix@{config.file(WAITING_SOCKET)}"
    return f"  server waiting-room {room} no-check maxconn {config.limits.max_connections} backup"


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


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
