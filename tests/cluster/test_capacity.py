"""What a project asks for must fit on a node: an error at once, where Ray would wait for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlcluster.cluster import (
    ClusterPlan,
    capacity_findings,
    price_types,
    read_documents,
    read_plan,
    read_price_list,
    requests_of,
)
from mlcluster.cluster.pricing import PricedType
from mlcluster.spec import ProjectSpec
from tests.cluster.files import FOLDER, edited


def cluster(path: Path) -> tuple[ClusterPlan, tuple[PricedType, ...]]:
    plan = read_plan(read_documents(path)[0])
    return plan, price_types(plan, read_price_list(FOLDER / "prices.yaml"))


def problems(path: Path, **keys: object) -> list[str]:
    spec = ProjectSpec.model_validate({"data": {"source": "t.csv", "target": "y"}, **keys})
    plan, types = cluster(path)
    return [str(finding) for finding in capacity_findings(plan, types, requests_of(spec, cpus_per_replica=0.5))]


@pytest.mark.parametrize("workers", ["gpu", "both"])
def test_a_gpu_that_no_type_has_is_an_error(workers: str) -> None:
    found = problems(FOLDER / "aws-cpu.yaml", workers=workers, models=["mlp"])
    assert len(found) == 1
    assert found[0].startswith(
        f"aws-cpu.yaml: workers = {workers} asks for a trial on a GPU (1 CPU + 1 GPU), and no node type can hold"
        " 1 CPU + 1 GPU (head 0 CPU, cpu-spot 8 CPU, cpu-on-demand 8 CPU); give a type those resources"
    )


@pytest.mark.parametrize("workers", ["auto", "cpu"])
def test_a_gpu_that_is_not_asked_for_is_not_missed(workers: str) -> None:
    assert problems(FOLDER / "aws-cpu.yaml", workers=workers) == []


@pytest.mark.parametrize("workers", ["auto", "cpu", "gpu", "both"])
def test_all_kinds_find_room_where_there_are_gpus(workers: str) -> None:
    assert problems(FOLDER / "aws-cpu-gpu-spot.yaml", workers=workers, models=["mlp"]) == []


def test_a_head_without_workers_holds_nothing(tmp_path: Path) -> None:
    path = edited(tmp_path, "aws-cpu.yaml", ("max_workers: 8", "max_workers: 0"))
    found = problems(path)
    assert len(found) == 3
    assert "data.source = t.csv asks for a task of Ray Data (1 CPU), and no node type can hold 1 CPU" in found[1]


def test_replicas_that_the_largest_size_cannot_hold_are_counted() -> None:
    assert problems(FOLDER / "aws-cpu.yaml", serve={"replicas": "128..200"}) == []
    found = problems(FOLDER / "aws-cpu.yaml", serve={"replicas": "129..200"})
    assert len(found) == 1
    assert "asks for 129 replicas at least (0.5 CPU each), and the largest size holds 128 of 0.5 CPU" in found[0]


def test_machines_of_ones_own_are_taken_to_hold_what_is_asked() -> None:
    assert problems(FOLDER / "local.yaml", workers="both", models=["mlp"]) == []
