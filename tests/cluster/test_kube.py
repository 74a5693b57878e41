"""KubeRay's files: read as nodes with prices, and held against our own rules and against their definitions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlcluster.cluster import (
    capacity_findings,
    crd_findings,
    kube_cluster,
    kube_findings,
    price_types,
    read_documents,
    read_kube_plan,
    read_price_list,
    read_schemas,
    requests_of,
    spot_findings,
)
from mlcluster.cluster.kube_reading import quantity
from mlcluster.errors import SpecError
from mlcluster.spec import ProjectSpec
from tests.cluster.files import FOLDER

FILES = sorted((FOLDER / "kuberay").glob("*.yaml"))
PRICES = read_price_list(FOLDER / "prices.yaml")
DEFINITION = """
kind: CustomResourceDefinition
spec:
  group: ray.io
  names: {kind: RayCluster}
  versions:
    - name: v1
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              required: [headGroupSpec]
              properties:
                rayVersion: {type: string}
                size: {x-kubernetes-int-or-string: true, anyOf: [{type: integer}, {type: string}]}
                labels: {type: object, additionalProperties: {type: string}}
                headGroupSpec: {type: object, properties: {serviceType: {type: string, enum: [ClusterIP]}}}
"""


def edited_kube(folder: Path, name: str, *edits: tuple[str, str]) -> Path:
    text = (FOLDER / "kuberay" / name).read_text()
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / name
    path.write_text(text)
    return path


def problems(path: Path) -> list[str]:
    resource = kube_cluster(read_documents(path))
    assert resource is not None
    return [f"{finding.level} {finding}" for finding in kube_findings(resource)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_shipped_file_keeps_our_rules_and_has_a_price_for_each_pod(path: Path) -> None:
    resource = kube_cluster(read_documents(path))
    assert resource is not None
    plan = read_kube_plan(resource)
    assert kube_findings(resource) == []
    assert spot_findings(plan, resource.document) == []
    types = price_types(plan, PRICES)
    assert all(one.usd_per_hour for one in types)
    spec = ProjectSpec.model_validate({"data": {"source": "t.csv", "target": "y"}})
    assert capacity_findings(plan, types, requests_of(spec, cpus_per_replica=0.5)) == []
    assert plan.head.resources == {"CPU": 0}
    assert [one.is_spot for one in plan.workers] == [True, False] * (len(plan.workers) // 2)
    assert {tuple(one.resources.items()) for one in plan.workers} <= {(("CPU", 7),), (("CPU", 3), ("GPU", 1))}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_shipped_file_is_what_its_definition_takes(path: Path, shared_kuberay: Path) -> None:
    schemas = read_schemas(shared_kuberay)
    assert {kind for _, kind in schemas} == {"RayCluster", "RayJob", "RayService"}
    found = [str(finding) for document in read_documents(path) for finding in crd_findings(document, schemas)]
    assert found == []


def test_a_key_that_the_definition_lacks_is_an_error_with_the_nearest(tmp_path: Path, shared_kuberay: Path) -> None:
    path = edited_kube(
        tmp_path,
        "rayjob.yaml",
        ("ttlSecondsAfterFinished", "ttlSecondsAfterFinish"),
        ("minReplicas: 0", "minReplicas: no"),
    )
    found = [str(finding) for finding in crd_findings(read_documents(path)[0], read_schemas(shared_kuberay))]
    assert len(found) == 5
    assert found[0].endswith(
        "spec.ttlSecondsAfterFinish is no key of RayJob, and would be dropped; did you mean ttlSecondsAfterFinished."
    ) or found[-1].endswith("did you mean ttlSecondsAfterFinished.")
    assert any("workerGroupSpecs.0.minReplicas = False is not what the definition takes" in line for line in found)


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("{headGroupSpec: {}, size: 5}", None),
        ("{headGroupSpec: {}, size: 500m, labels: {any: thing}}", None),
        ("{headGroupSpec: {serviceType: ClusterIP}}", None),
        ("{size: 1}", "c.yaml:3: spec is not what the definition takes ('headGroupSpec' is a required property)"),
        (
            "{headGroupSpec: {}, rayVersio: x}",
            "spec.rayVersio is no key of RayCluster, and would be dropped; did you mean",
        ),
        (
            "{headGroupSpec: {serviceType: NodePort}}",
            "spec.headGroupSpec.serviceType = NodePort is not what the definit",
        ),
        ("{headGroupSpec: {}, labels: {any: 1}}", "spec.labels.any = 1 is not what the definition takes"),
    ],
)
def test_a_resource_is_held_against_a_definition_as_kubernetes_would(
    tmp_path: Path, spec: str, complaint: str | None
) -> None:
    (tmp_path / "crds").mkdir()
    (tmp_path / "crds" / "one.yaml").write_text(DEFINITION)
    path = tmp_path / "c.yaml"
    path.write_text(f"apiVersion: ray.io/v1\nkind: RayCluster\nspec: {spec}\n")
    found = [str(finding) for finding in crd_findings(read_documents(path)[0], read_schemas(tmp_path / "crds"))]
    assert len(found) == (0 if complaint is None else 1)
    assert complaint is None or complaint in found[0]


def test_a_folder_without_definitions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"^--crds = .* holds no CustomResourceDefinition; give KubeRay's"):
        read_schemas(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (
            "mode: token",
            "mode: disabled",
            "error raycluster.yaml:18: spec.authOptions.mode = disabled starts Ray without",
        ),
        (
            "rayVersion: 2.60.0",
            "rayVersion: 2.9.0",
            "error raycluster.yaml:17: spec.rayVersion = 2.9.0 is too old for a",
        ),
        ("serviceType: ClusterIP", "serviceType: LoadBalancer", "serviceType = LoadBalancer opens its ports outside"),
        ("serviceType: ClusterIP", "enableIngress: true", "puts the dashboard behind an ingress; take it out"),
        (
            'limits: {cpu: "7", memory: 26Gi}',
            'limits: {cpu: "7"}',
            "has no requests or limits of memory, and Ray counts",
        ),
        ("    replicas: 0", "    replicas: 9", "maxReplicas = 8 has replicas 9 in 0..8; let minReplicas <= replicas"),
        (
            'limits: {cpu: "3", memory: 13Gi, nvidia.com/gpu: "1"}',
            'limits: {cpu: "3", memory: 14Gi, nvidia.com/gpu: "1"}',
            "containers.0.resources is given 13Gi and takes up to 14Gi",
        ),
        (
            "idleTimeoutSeconds: 600",
            "upscalingMode: Default",
            "does not say when an idle worker goes back; set idleTim",
        ),
        ("enableInTreeAutoscaling: true", "suspend: false", "leaves the cluster at the size it has; set enableInTree"),
        (
            "runAsNonRoot: true, ",
            "",
            "spec.headGroupSpec.template.spec.securityContext may run as root",
        ),
        ("allowPrivilegeEscalation: false, cap", "cap", "lets a process gain rights that its parent lacks"),
        (
            "allowPrivilegeEscalation: false, cap",
            "privileged: true, cap",
            "runs a pod that may do anything on its node",
        ),
    ],
)
def test_what_is_wrong_with_a_resource_is_told_with_its_line(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    found = problems(edited_kube(tmp_path, "raycluster.yaml", (old, new)))
    assert any(complaint in line for line in found), found


def test_gpus_that_a_pod_is_not_given_are_told(tmp_path: Path) -> None:
    path = edited_kube(tmp_path, "rayservice.yaml", ("rayStartParams: {}", 'rayStartParams: {num-gpus: "1"}'))
    assert any(
        "tells Ray of 1 GPUs and is given none; set limits: {nvidia.com/gpu: 1}." in one for one in problems(path)
    )


def test_a_token_that_is_given_by_hand_counts(tmp_path: Path) -> None:
    by_hand = "env: [{name: RAY_AUTH_MODE, value: token}, {name: RAY_AUTH_TOKEN, valueFrom: {}}], image: x"
    text = (FOLDER / "kuberay" / "rayservice.yaml").read_text().replace("authOptions: {mode: token}", "suspend: false")
    text = re.sub(r"- name: (ray-\w+)\n +image: .*", rf"- {{name: \1, {by_hand}}}\n", text)
    text = re.sub(r"(?m)^ +(securityContext: \{allow|resources:$|requests:|limits:|volumeMounts:).*\n", "", text)
    path = tmp_path / "rayservice.yaml"
    path.write_text(text)
    assert not any("without a token" in line for line in problems(path))
    path.write_text(text.replace("RAY_AUTH_MODE", "RAY_AUTH", 1))
    assert any("without a token" in line for line in problems(path))


@pytest.mark.parametrize(
    ("given", "number"), [("500m", 0.5), (2, 2.0), ("8Gi", 8 * 2**30), ("1.5", 1.5), ("26Mi", 26 * 2**20), ("3G", 3e9)]
)
def test_quantities_are_those_of_kubernetes(given: object, number: float) -> None:
    assert quantity(given) == pytest.approx(number)


@pytest.mark.parametrize("given", ["many", "8GB", "", None])
def test_what_is_no_quantity_is_refused(given: object) -> None:
    with pytest.raises(SpecError, match=r"is no quantity of Kubernetes; write it like 500m, 2 or 8Gi\.$"):
        quantity(given)


def test_two_resources_in_one_file_are_refused(tmp_path: Path) -> None:
    text = (FOLDER / "kuberay" / "raycluster.yaml").read_text()
    (tmp_path / "two.yaml").write_text(f"{text}---\n{text}")
    with pytest.raises(SpecError, match=r"^two.yaml:\d+: kind = RayCluster is the second here; give each its own file"):
        kube_cluster(read_documents(tmp_path / "two.yaml"))
