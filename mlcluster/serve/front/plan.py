"""A front door, before it is opened: where, for whom, with what limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlcluster.serve.front.api_keys import ApiKey
from mlcluster.serve.front.haproxy_config import Address, FrontLimits


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontAccess:
    """Who is let in, and by what certificate the front is known."""

    keys: tuple[ApiKey, ...] | None = None
    """None asks for no key."""
    certificate: str | None = None
    """Certificates and private key, as PEM in one; None speaks plain HTTP."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontPlan:
    """A front door, before it is opened."""

    public: Address
    waiting_room: Address
    """Ray Serve's own proxy."""
    grpc: Address | None = None
    """Where it speaks gRPC; None for nowhere."""
    num_slots: int
    """Replicas at one time, those that start and end during an update included."""
    limits: FrontLimits = field(default_factory=FrontLimits)
    access: FrontAccess = field(default_factory=FrontAccess)
    others: Mapping[str, str] = field(default_factory=dict)
    """`NAME`, `NAME@ALIAS` and `NAME/VERSION` of each model beside the own one -> the model and version meant."""
    replica_secret: str = ""
    """What each request to a replica bears; empty where they ask for none."""
    app: str = ""
    """The application of Ray Serve that answers; empty until one has taken over."""
