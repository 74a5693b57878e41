"""What is to be served, as data: printed before it is started, and carried to any node that starts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlcluster.registry import Bundle, TrustedKeys, digest_of
from mlcluster.serve.front.haproxy_config import Address
from mlcluster.serve.front.plan import FrontAccess
from mlcluster.serve.memory import loaded_bytes
from mlcluster.serve.other_models import OtherModel, ServedModel
from mlcluster.serve.predictor import UNVERSIONED


@dataclass(frozen=True, kw_only=True, slots=True)
class OtherBundle:
    """A model to be served beside an endpoint's own, with what its bundle makes anew each time that it is asked."""

    bundle: Bundle
    files: Mapping[str, bytes]
    model: OtherModel
    """What a replica knows of it before it loads it."""

    @classmethod
    def of(cls, bundle: Bundle, *, aliases: tuple[str, ...] = ()) -> OtherBundle:
        """This bundle under these aliases.

        Raises:
            BundleError: a part of it holds something that is not JSON, such as NaN.
        """
        card, files = bundle.card, bundle.files()
        model = OtherModel(
            served=ServedModel(name=card.name, version=card.version or UNVERSIONED, aliases=aliases),
            digest=digest_of(files),
            loaded_bytes=loaded_bytes(sum(len(data) for data in files.values())),
            target=bundle.schema.target,
        )
        return cls(bundle=bundle, files=files, model=model)


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbours:
    """What is served beside an endpoint's own model, and under which names this one is."""

    own_aliases: tuple[str, ...] = ()
    others: tuple[OtherBundle, ...] = ()
    max_bytes: int = 512 * 10**6
    """What the others may take in a replica's memory; one that does not fit is loaded when it is asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaPlan:
    """What a replica is made from: replicas are started anew where it changes, and go on where only the rest does."""

    bundle_files: Mapping[str, bytes]
    max_ongoing: int
    usd_per_hour: float | None
    records_folder: str | None
    records_bytes: int
    statistics_seconds: float | None
    speaks_grpc: bool
    timeout_seconds: float
    """For a request, and for those in flight when the replica is to end."""
    aliases: tuple[str, ...]
    others: tuple[OtherModel, ...]
    others_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ServePlan:
    """One endpoint. The bundle travels as bytes, so that a replica on any node can load it."""

    name: str
    """Of the endpoint: a second plan of this name replaces the first without a gap."""
    bundle_files: Mapping[str, bytes]
    trusted: TrustedKeys | None = None
    """Who must have signed the bundle; None asks for no signature."""
    min_replicas: int = 0
    max_replicas: int = 4
    target_ongoing: float = 8
    """Requests in flight per replica at which another replica is started."""
    neighbours: Neighbours = field(default_factory=Neighbours)
    max_ongoing: int = 256
    """Requests in flight that one replica takes; one more is answered 429."""
    cpus_per_replica: float = 0.5
    """What a replica reserves; it uses a whole core when it is busy and the core is free."""
    replica_usd_per_hour: float | None = None
    """What a replica costs, for the metrics."""
    records_folder: str | None = None
    """Where each replica appends its predictions; None keeps no records."""
    records_bytes: int = 10**9
    """What this folder may hold, about; the oldest records go."""
    statistics_seconds: float | None = None
    """The window in which replicas count what their records hold; None counts nothing."""
    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int | None = None
    """Of the same host; None speaks no gRPC."""
    access: FrontAccess = field(default_factory=FrontAccess)
    """Who may ask, and by what certificate the endpoint is known."""
    upscale_delay_seconds: float = 2.0
    downscale_delay_seconds: float = 60.0
    request_timeout_seconds: float = 60.0
    """For a request from end to end, where it does not say less itself; above the cold start, so that an endpoint
    scaled to zero answers its first one."""
    slowest_seconds: float = 1.0
    """For one row, in the median, when a new version is tried: a slower one does not take over."""

    @property
    def replica(self) -> ReplicaPlan:
        """The part that each replica is made from."""
        return ReplicaPlan(
            bundle_files=dict(self.bundle_files),
            max_ongoing=self.max_ongoing,
            usd_per_hour=self.replica_usd_per_hour,
            records_folder=self.records_folder,
            records_bytes=self.records_bytes,
            statistics_seconds=self.statistics_seconds,
            speaks_grpc=self.grpc_port is not None,
            timeout_seconds=self.request_timeout_seconds,
            aliases=self.neighbours.own_aliases,
            others=tuple(other.model for other in self.neighbours.others),
            others_bytes=self.neighbours.max_bytes,
        )

    @property
    def url(self) -> str:
        """Where it answers, from this machine."""
        scheme = "http" if self.access.certificate is None else "https"
        return f"{scheme}://{Address(host=self._reachable_host, port=self.port)}"

    @property
    def grpc_address(self) -> str | None:
        """Where it speaks gRPC, from this machine."""
        return None if self.grpc_port is None else str(Address(host=self._reachable_host, port=self.grpc_port))

    @property
    def _reachable_host(self) -> str:
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound

    def summary(self) -> str:
        """One line for a person."""
        size_mb = sum(len(data) for data in self.bundle_files.values()) / 1e6
        replicas = f"{self.min_replicas} to {self.max_replicas} replicas"
        return f"{self.name}: {replicas} at {self.url}, a bundle of {size_mb:.2f} MB"


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """Where a served model answers."""

    url: str
    """Without a slash at its end."""
    app_name: str
    """Of the Serve application behind it; each deployment is one of its own."""
    model: str
    version: str
    grpc: str | None = None
    """`host:port` where it speaks gRPC, if it does."""

    @property
    def infer_url(self) -> str:
        """Of the Open Inference Protocol, for whatever version is served."""
        return f"{self.url}/v2/models/{self.model}/infer"
