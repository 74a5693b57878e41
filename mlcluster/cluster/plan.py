"""The machines of a cluster file, whichever cloud or operator it is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mlcluster.cluster.documents import KeyPath

Provider = Literal["aws", "gcp", "azure", "local", "kuberay"]
PROVIDERS: tuple[Provider, ...] = ("aws", "gcp", "azure", "local", "kuberay")


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeType:
    """Nodes of one kind."""

    name: str
    path: KeyPath
    """Where the file says it."""
    instance_type: str | None
    """The cloud's name for it; None where the file does not say."""
    resources: Mapping[str, float]
    """What Ray is told that a node offers; what is left out is what the machine has."""
    min_nodes: int
    max_nodes: int
    is_head: bool = False
    is_spot: bool = False
    priority: int = 0
    """Among types that fit a request equally well, the highest is started first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterPlan:
    """What may be started."""

    source: str
    name: str
    provider: Provider
    region: str | None
    node_types: tuple[NodeType, ...]
    """The head first."""
    max_workers: int
    """Of all types together."""
    idle_minutes: float | None

    @property
    def head(self) -> NodeType:
        return self.node_types[0]

    @property
    def workers(self) -> tuple[NodeType, ...]:
        return self.node_types[1:]
