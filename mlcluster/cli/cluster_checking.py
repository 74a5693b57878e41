"""All that can be said of a cluster file before a node is started, for `cluster check` and `cluster up`."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlcluster.cli.leasing import CLUSTER_CPUS_PER_REPLICA
from mlcluster.cluster import (
    ClusterPlan,
    Finding,
    HourlyForecast,
    KubeCluster,
    PricedType,
    PriceList,
    capacity_findings,
    crd_findings,
    forecast_hour,
    kube_cluster,
    kube_findings,
    placeholder_findings,
    price_findings,
    price_types,
    read_documents,
    read_kube_plan,
    read_plan,
    read_price_list,
    read_schemas,
    requests_of,
    secret_file_findings,
    security_findings,
    spot_findings,
)
from mlcluster.cluster.price_list import FILE_NAME
from mlcluster.errors import SpecError
from mlcluster.spec import ProjectSpec, YamlDocument

_ORDER = ("error", "edit", "warning")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterReport:
    """What a file comes to; `plan` is None where it breaks the schema of who reads it."""

    plan: ClusterPlan | None
    types: tuple[PricedType, ...]
    forecast: HourlyForecast | None
    findings: tuple[Finding, ...]

    @property
    def has_errors(self) -> bool:
        return any(finding.level == "error" for finding in self.findings)

    @property
    def is_ready(self) -> bool:
        """Whether it may be brought up: no error, and nothing left to fill in."""
        return all(finding.level == "warning" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "is_fine": not self.has_errors,
            "is_ready": self.is_ready,
            "provider": None if self.plan is None else self.plan.provider,
            "types": [_type_json(one) for one in self.types],
            "usd_per_hour": None if self.forecast is None else asdict(self.forecast),
            "findings": [asdict(finding) for finding in self.findings],
        }


def check_cluster(path: Path, *, spec: ProjectSpec | None = None, crds: Path | None = None) -> ClusterReport:
    """Reads the file, its price list and this machine's clock and key files; nothing is started.

    `crds` is a folder with KubeRay's CustomResourceDefinitions, against which its resources are held.

    Raises:
        SpecError: the file cannot be read, or it is for no provider that is known here.
    """
    documents = read_documents(path)
    resource = kube_cluster(documents)
    if resource is not None:
        return _check_kube(path, documents, resource, spec, crds)
    if crds is not None:
        raise SpecError(f"--crds = {crds} is for KubeRay's resources, and {path.name} holds none; leave it out.")
    from mlcluster.cluster.ray_schema import schema_findings

    document = documents[0]
    breaches = schema_findings(document)
    if breaches:
        return ClusterReport(plan=None, types=(), forecast=None, findings=tuple(breaches))
    plan = read_plan(document)
    secrets = secret_file_findings(document, home=Path.home())
    findings = [
        *placeholder_findings(document),
        *security_findings(plan, document),
        *secrets,
        *spot_findings(plan, document),
    ]
    return _priced(path, plan, document, findings, spec)


def _check_kube(
    path: Path,
    documents: Sequence[YamlDocument],
    resource: KubeCluster,
    spec: ProjectSpec | None,
    crds: Path | None,
) -> ClusterReport:
    schemas = {} if crds is None else read_schemas(crds)
    breaches = [finding for document in documents for finding in crd_findings(document, schemas)]
    if breaches:
        return ClusterReport(plan=None, types=(), forecast=None, findings=tuple(breaches))
    plan = read_kube_plan(resource)
    placeholders = [finding for document in documents for finding in placeholder_findings(document)]
    findings = [*placeholders, *kube_findings(resource), *spot_findings(plan, resource.document)]
    return _priced(path, plan, resource.document, findings, spec)


def _priced(
    path: Path, plan: ClusterPlan, document: YamlDocument, findings: list[Finding], spec: ProjectSpec | None
) -> ClusterReport:
    try:
        prices = read_price_list(_price_list_beside(path))
    except SpecError as error:
        prices = PriceList(source=FILE_NAME, prices={})
        findings = [*findings, *_of_price_list(str(error))]
    else:
        today = datetime.datetime.now(tz=datetime.UTC).date()
        findings = [*findings, *price_findings(plan, document, prices, today=today)]
    types = price_types(plan, prices)
    if spec is not None:
        requests = requests_of(spec, cpus_per_replica=CLUSTER_CPUS_PER_REPLICA)
        findings = [*findings, *capacity_findings(plan, types, requests)]
    return ClusterReport(
        plan=plan,
        types=types,
        forecast=forecast_hour(plan, types),
        findings=tuple(sorted(findings, key=lambda finding: _ORDER.index(finding.level))),
    )


def read_priced(path: Path) -> tuple[ClusterPlan, tuple[PricedType, ...]]:
    """A Ray cluster file and its node types with their prices, for those who need it right: see `check_cluster`.

    Raises:
        SpecError: the file or its price list is not there or wrong.
    """
    plan = read_plan(read_documents(path)[0])
    return plan, price_types(plan, read_price_list(_price_list_beside(path)))


def _price_list_beside(path: Path) -> Path:
    """The price list of a cluster file: in its folder, or in the one above (as for `kuberay/`)."""
    above = path.resolve().parent.parent / FILE_NAME
    here = path.resolve().parent / FILE_NAME
    return above if above.exists() and not here.exists() else here


def _of_price_list(message: str) -> Iterator[Finding]:
    for line in message.splitlines():
        where, _, rest = line.partition(": ")
        problem, _, fix = (rest or where).rpartition("; ")
        yield Finding(
            level="error", where=where if rest else FILE_NAME, problem=problem or rest, fix=fix.removesuffix(".")
        )


def _type_json(one: PricedType) -> Mapping[str, Any]:
    node = one.node
    return {
        "name": node.name,
        "instance_type": node.instance_type,
        "is_head": node.is_head,
        "is_spot": node.is_spot,
        "min_nodes": node.min_nodes,
        "max_nodes": node.max_nodes,
        "resources": dict(one.resources),
        "usd_per_hour": one.usd_per_hour,
    }
