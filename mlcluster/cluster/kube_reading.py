"""From KubeRay's RayCluster, RayJob or RayService to a `ClusterPlan`: a group of pods is a type of node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlcluster.cluster.documents import KeyPath
from mlcluster.cluster.findings import list_at, mapping_at, text_at, value_at, whole_at
from mlcluster.cluster.plan import ClusterPlan, NodeType
from mlcluster.errors import SpecError
from mlcluster.spec import YamlDocument

CLUSTER_PATHS: dict[str, KeyPath] = {
    "RayCluster": ("spec",),
    "RayJob": ("spec", "rayClusterSpec"),
    "RayService": ("spec", "rayClusterConfig"),
}
"""Kind -> where its cluster stands."""
HEAD: KeyPath = ("headGroupSpec",)
WORKERS: KeyPath = ("workerGroupSpecs",)
INSTANCE_LABEL = "node.kubernetes.io/instance-type"
_SPOT_LABELS = {
    "karpenter.sh/capacity-type": "spot",
    "eks.amazonaws.com/capacityType": "SPOT",
    "cloud.google.com/gke-spot": "true",
    "kubernetes.azure.com/scalesetpriority": "spot",
}
_GPU = "nvidia.com/gpu"
_FACTORS = {"m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}


@dataclass(frozen=True, kw_only=True, slots=True)
class KubeCluster:
    """One of KubeRay's resources."""

    document: YamlDocument
    kind: str
    path: KeyPath
    """Where its cluster stands."""

    def at(self, *path: str | int) -> Any:
        """What stands at `path` under the cluster."""
        return value_at(self.document.values, (*self.path, *path))

    def groups(self) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
        """The head's group, then the workers', each with its path from the top."""
        values = self.document.values
        head = (*self.path, *HEAD)
        yield head, mapping_at(values, head)
        for index in range(len(list_at(values, (*self.path, *WORKERS)))):
            path = (*self.path, *WORKERS, index)
            yield path, mapping_at(values, path)


def kube_cluster(documents: Sequence[YamlDocument]) -> KubeCluster | None:
    """KubeRay's resource among the documents of a file; None where there is none.

    Raises:
        SpecError: there are several.
    """
    found = [
        KubeCluster(document=document, kind=kind, path=path)
        for document in documents
        for kind, path in CLUSTER_PATHS.items()
        if document.values.get("kind") == kind and str(document.values.get("apiVersion")).startswith("ray.io/")
    ]
    if len(found) > 1:
        second = found[1].document
        raise SpecError(
            f"{second.where(('kind',))}: kind = {found[1].kind} is the second here; give each its own file."
        )
    return found[0] if found else None


def read_kube_plan(cluster: KubeCluster) -> ClusterPlan:
    """The pods of a resource that has a head, as nodes; a pod is taken to have a node to itself."""
    document = cluster.document
    types = tuple(_node_type(document, path, is_head=number == 0) for number, (path, _) in enumerate(cluster.groups()))
    idle = whole_at(document, (*cluster.path, "autoscalerOptions", "idleTimeoutSeconds"), -1)
    return ClusterPlan(
        source=cluster.document.source,
        name=str(value_at(cluster.document.values, ("metadata", "name")) or ""),
        provider="kuberay",
        region=None,
        node_types=types,
        max_workers=sum(one.max_nodes for one in types[1:]),
        idle_minutes=None if idle < 0 else idle / 60,
    )


def _node_type(document: YamlDocument, path: KeyPath, *, is_head: bool) -> NodeType:
    selector = (*path, "template", "spec", "nodeSelector")
    labels = mapping_at(document.values, selector)
    least = whole_at(document, (*path, "minReplicas"))
    return NodeType(
        name="head" if is_head else str(value_at(document.values, (*path, "groupName"))),
        path=path,
        instance_type=text_at(document, (*selector, INSTANCE_LABEL)),
        resources=_resources(mapping_at(document.values, path)),
        min_nodes=1 if is_head else least,
        max_nodes=1 if is_head else max(least, whole_at(document, (*path, "maxReplicas"))),
        is_head=is_head,
        is_spot=any(labels.get(label) == value for label, value in _SPOT_LABELS.items()),
        priority=whole_at(document, (*path, "priority")),
    )


def _resources(group: Mapping[str, Any]) -> dict[str, float]:
    """As KubeRay tells Ray: what `rayStartParams` says, else the limits of the first container."""
    limits = mapping_at(group, ("template", "spec", "containers", 0, "resources", "limits"))
    told = mapping_at(group, ("rayStartParams",))
    cpus, gpus = told.get("num-cpus", limits.get("cpu")), told.get("num-gpus", limits.get(_GPU))
    offer = {} if cpus is None else {"CPU": float(quantity(cpus))}
    return offer if gpus is None else {**offer, "GPU": float(quantity(gpus))}


def quantity(given: Any) -> float:
    """A quantity of Kubernetes as a number: `1500m` is 1.5, `2Gi` is 2 x 2^30.

    Raises:
        SpecError: it is none.
    """
    text = str(given).strip()
    unit = text.lstrip("+-.0123456789")
    try:
        return float(text.removesuffix(unit)) * _FACTORS[unit]
    except (KeyError, ValueError):
        raise SpecError(f"resources = {given} is no quantity of Kubernetes; write it like 500m, 2 or 8Gi.") from None
