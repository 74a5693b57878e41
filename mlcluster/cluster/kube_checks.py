"""What is wrong with one of KubeRay's resources that a schema does not tell: who gets in, and what a pod may take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlcluster.cluster.documents import KeyPath
from mlcluster.cluster.findings import Finding, Level, key_value, list_at, mapping_at, value_at, whole_at
from mlcluster.cluster.kube_reading import HEAD, KubeCluster, quantity

_OLDEST_WITH_TOKEN = (2, 52)
_OPEN_SERVICES = ("LoadBalancer", "NodePort")
_GPU = "nvidia.com/gpu"


def kube_findings(cluster: KubeCluster) -> list[Finding]:
    """Errors for what lets strangers in or cannot be scheduled, warnings for the rest."""
    found = [*_token(cluster), *_services(cluster), *_idle(cluster)]
    for path, group in cluster.groups():
        found += [*_replicas(cluster, path), *_security(cluster, path, group), *_sizes(cluster, path, group)]
    return found


def _token(cluster: KubeCluster) -> Iterator[Finding]:
    path = (*cluster.path, "authOptions", "mode")
    if cluster.at("authOptions", "mode") != "token" and not _own_token(cluster):
        problem = "starts Ray without a token: whoever reaches a pod runs code there"
        yield _finding("error", cluster, path, problem, "set authOptions: {mode: token}")
        return
    version = str(cluster.at("rayVersion") or "")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < _OLDEST_WITH_TOKEN:
        problem = "is too old for a token, or KubeRay cannot tell"
        yield _finding("error", cluster, (*cluster.path, "rayVersion"), problem, "set rayVersion: 2.52.0 or newer")


def _own_token(cluster: KubeCluster) -> bool:
    """Whether each group's first container is given a token by hand, as before KubeRay 1.5.1."""
    return all(
        {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"}
        <= {str(value_at(one, ("name",))) for one in list_at(group, ("template", "spec", "containers", 0, "env"))}
        for _, group in cluster.groups()
    )


def _services(cluster: KubeCluster) -> Iterator[Finding]:
    for path in (
        (*cluster.path, *HEAD, "serviceType"),
        (*cluster.path, *HEAD, "headService", "spec", "type"),
        ("spec", "serveService", "spec", "type"),
    ):
        if str(value_at(cluster.document.values, path)) in _OPEN_SERVICES:
            problem = "opens its ports outside of the Kubernetes cluster"
            yield _finding("error", cluster, path, problem, "use ClusterIP, and kubectl port-forward")
    if cluster.at(*HEAD, "enableIngress"):
        problem = "puts the dashboard behind an ingress"
        yield _finding("error", cluster, (*cluster.path, *HEAD, "enableIngress"), problem, "take it out")


def _idle(cluster: KubeCluster) -> Iterator[Finding]:
    if not cluster.at("enableInTreeAutoscaling"):
        problem = "leaves the cluster at the size it has"
        fix = "set enableInTreeAutoscaling: true, or nothing goes back when it idles"
        yield _finding("warning", cluster, (*cluster.path, "enableInTreeAutoscaling"), problem, fix)
    elif cluster.at("autoscalerOptions", "idleTimeoutSeconds") is None:
        problem = "does not say when an idle worker goes back"
        yield _finding("warning", cluster, (*cluster.path, "autoscalerOptions"), problem, "set idleTimeoutSeconds: 600")


def _replicas(cluster: KubeCluster, path: KeyPath) -> Iterator[Finding]:
    if path[-1] == HEAD[-1]:
        return
    document = cluster.document
    least, most, replicas = (whole_at(document, (*path, name)) for name in ("minReplicas", "maxReplicas", "replicas"))
    if not least <= max(replicas, least) <= most:
        problem = f"has replicas {replicas} in {least}..{most}"
        yield _finding("error", cluster, (*path, "maxReplicas"), problem, "let minReplicas <= replicas <= maxReplicas")


def _sizes(cluster: KubeCluster, path: KeyPath, group: Mapping[str, Any]) -> Iterator[Finding]:
    """Ray counts a pod's CPUs, memory and GPUs from its limits; without them, each pod counts the whole machine."""
    container: KeyPath = (*path, "template", "spec", "containers", 0)
    resources = mapping_at(cluster.document.values, (*container, "resources"))
    requests, limits = mapping_at(resources, ("requests",)), mapping_at(resources, ("limits",))
    for key in ("cpu", "memory"):
        if key not in requests or key not in limits:
            missing = "requests and limits" if key not in requests and key not in limits else "requests or limits"
            problem = f"has no {missing} of {key}, and Ray counts the machine's"
            yield _finding("error", cluster, (*container, "resources"), problem, f"give {key} in both, the same")
    if "memory" in requests and "memory" in limits and quantity(requests["memory"]) != quantity(limits["memory"]):
        problem = f"is given {requests['memory']} and takes up to {limits['memory']}, so its node may run out of memory"
        yield _finding("warning", cluster, (*container, "resources"), problem, "let limits and requests be the same")
    asked = value_at(group, ("rayStartParams", "num-gpus"))
    if asked not in (None, "0") and _GPU not in limits:
        problem = f"tells Ray of {asked} GPUs and is given none"
        yield _finding("error", cluster, (*container, "resources"), problem, f"set limits: {{{_GPU}: {asked}}}")


def _security(cluster: KubeCluster, path: KeyPath, group: Mapping[str, Any]) -> Iterator[Finding]:
    pod = mapping_at(group, ("template", "spec", "securityContext"))
    first = mapping_at(group, ("template", "spec", "containers", 0, "securityContext"))
    place = (*path, "template", "spec", "securityContext")
    if first.get("privileged"):
        yield _finding("error", cluster, place, "runs a pod that may do anything on its node", "take privileged out")
    if not (first.get("runAsNonRoot") or pod.get("runAsNonRoot")):
        yield _finding("warning", cluster, place, "may run as root", "set runAsNonRoot: true, runAsUser: 1000")
    if first.get("allowPrivilegeEscalation") is not False:
        problem = "lets a process gain rights that its parent lacks"
        yield _finding("warning", cluster, place, problem, "set allowPrivilegeEscalation: false on the container")


def _finding(level: Level, cluster: KubeCluster, path: KeyPath, problem: str, fix: str) -> Finding:
    value = value_at(cluster.document.values, path)
    shown = None if isinstance(value, Mapping | list) else value
    return Finding(
        level=level, where=cluster.document.where(path), problem=f"{key_value(path, shown)} {problem}", fix=fix
    )
