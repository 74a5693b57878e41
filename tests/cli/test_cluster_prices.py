"""`prices.cluster`: dollars by node type, shown by the plan and billed to whoever works."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlcluster.cli.cluster_prices import worker_prices
from mlcluster.errors import SpecError
from mlcluster.spec import ProjectSpec
from tests.cli.projects import make_project, run_here
from tests.cluster.files import FOLDER


def spec(cluster: str | None) -> ProjectSpec:
    prices = {"cpu_hour": 0.07, "gpu_hour": 3.0, **({} if cluster is None else {"cluster": cluster})}
    return ProjectSpec.model_validate({"data": {"source": "t.csv", "target": "y"}, "prices": prices})


def test_a_worker_costs_its_share_of_the_cheapest_node() -> None:
    found = worker_prices(spec("gcp-cpu-gpu.yaml"), FOLDER)
    assert found.book.cpu_usd_per_hour == pytest.approx(0.034088 / 8)
    assert found.book.cpu_usd_per_hour + found.book.gpu_usd_per_hour == pytest.approx(0.23)
    assert found.notes == (
        "a cpu worker is 1/8 of a n2d-standard-8 on spot ($0.004261 an hour); where that falls back, up to $0.04225",
        "a gpu worker is the whole of a g2-standard-4 on spot ($0.23 an hour); where that falls back, up to $0.76",
    )
    assert found.head_note == "the head (e2-standard-2, $0.06701 an hour) is not in these dollars"


def test_kinds_that_no_type_holds_keep_the_price_of_the_project_file() -> None:
    found = worker_prices(spec("aws-cpu.yaml"), FOLDER)
    assert found.book.cpu_usd_per_hour == pytest.approx(0.3456 / 8)
    assert found.book.gpu_usd_per_hour == 3.0


def test_without_a_cluster_the_project_file_says_the_prices() -> None:
    found = worker_prices(spec(None), FOLDER)
    assert (found.book.cpu_usd_per_hour, found.book.gpu_usd_per_hour, found.notes) == (0.07, 3.0, ())


@pytest.mark.parametrize(
    ("cluster", "complaint"),
    [
        ("no.yaml", r"^prices.cluster = no.yaml is no file in .*; name one of cluster-configs/\.$"),
        (
            "local.yaml",
            r"^prices.cluster = local.yaml has no worker type with a price that holds a CPU; see what `mlclus",
        ),
    ],
)
def test_a_file_without_prices_is_refused(cluster: str, complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint):
        worker_prices(spec(cluster), FOLDER)


def test_plan_shows_the_node_types_behind_its_dollars(tmp_path: Path) -> None:
    text = "data: {source: data/t.parquet, target: answer}\nprices: {cluster: cluster-configs/aws-cpu.yaml}\n"
    project = make_project(tmp_path / "demo", text.replace("data/t.parquet", "data/table.parquet"))
    shutil.copytree(FOLDER, project / "cluster-configs")
    shown = run_here(project, "plan").stdout
    assert "cpu at $0.0432 an hour each" in shown
    assert "a cpu worker is 1/8 of a m6a.2xlarge on spot ($0.0432 an hour)" in shown
    assert "the head (m6a.large, $0.0864 an hour) is not in these dollars" in shown
    planned = run_here(project, "plan", "--json").json
    assert planned["worker_kinds"][0]["usd_per_second"] == pytest.approx(0.0432 / 3600)


def test_a_wrong_path_is_told_with_its_line(tmp_path: Path) -> None:
    text = "data: {source: data/table.parquet, target: answer}\nprices:\n  cluster: cluster-configs/nowhere.yaml\n"
    done = run_here(make_project(tmp_path / "demo", text), "plan")
    assert done.code == 2
    assert done.complaint.startswith("mlcluster.yaml:3: prices.cluster = cluster-configs/nowhere.yaml is no file in")
