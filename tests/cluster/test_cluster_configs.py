"""The cluster files: Ray accepts them as they are, nothing of ours complains of them, and `init` hands out the same."""

from __future__ import annotations

import json
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import pytest
import yaml

from mlcluster.cluster import (
    capacity_findings,
    forecast_hour,
    price_types,
    read_documents,
    read_plan,
    read_price_list,
    requests_of,
    security_findings,
)
from mlcluster.cluster.ray_schema import schema_findings
from mlcluster.spec import ProjectSpec

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "cluster-configs"
CONFIGS = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "prices.yaml")
CLOUDS = [path for path in CONFIGS if path.name != "local.yaml"]
PRICES = read_price_list(FOLDER / "prices.yaml")


def project(**keys: object) -> ProjectSpec:
    return ProjectSpec.model_validate({"data": {"source": "t.csv", "target": "y"}, **keys})


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_ray_accepts_the_cluster_file(path: Path) -> None:
    import jsonschema
    import ray
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(path.read_text())
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(config, schema)
    validate_config(prepare_config(config))
    assert schema_findings(read_documents(path)[0]) == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_no_cluster_file_starts_ray_without_a_token(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    starts = [
        line for line in config["head_start_ray_commands"] + config["worker_start_ray_commands"] if "start" in line
    ]
    assert starts
    assert all("RAY_AUTH_MODE=token" in line for line in starts)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_nothing_in_a_cluster_file_lets_strangers_in(path: Path) -> None:
    document = read_documents(path)[0]
    assert [str(finding) for finding in security_findings(read_plan(document), document)] == []


@pytest.mark.parametrize("path", CLOUDS, ids=lambda path: path.name)
def test_each_type_has_a_price_and_each_project_finds_room(path: Path) -> None:
    plan = read_plan(read_documents(path)[0])
    types = price_types(plan, PRICES)
    assert all(one.price is not None and one.usd_per_hour for one in types)
    assert capacity_findings(plan, types, requests_of(project(), cpus_per_replica=0.5)) == []
    hour = forecast_hour(plan, types)
    assert hour is not None
    assert 0 < hour.min_usd < 0.25 < hour.typical_usd < hour.max_usd


@pytest.mark.parametrize("path", CLOUDS, ids=lambda path: path.name)
def test_the_head_takes_no_work_and_workers_are_bought_on_spot_first(path: Path) -> None:
    plan = read_plan(read_documents(path)[0])
    assert plan.head.resources == {"CPU": 0}
    assert not plan.head.is_spot
    assert {one.min_nodes for one in plan.workers} == {0}
    offers = {tuple(sorted(one.resources.items())) for one in plan.workers}
    for offer in offers:
        kind = [one for one in plan.workers if tuple(sorted(one.resources.items())) == offer]
        assert sorted((one.is_spot, one.priority) for one in kind) == [(False, 0), (True, 1)]
        assert len({one.instance_type for one in kind}) == 1


def test_the_price_list_has_enough_to_swap_in_and_nothing_is_free() -> None:
    assert len(PRICES.prices) >= 60
    assert {price.cloud for price in PRICES.prices.values()} == {"aws", "gcp", "azure"}
    for price in PRICES.prices.values():
        assert 0 < (price.spot_usd_per_hour or price.usd_per_hour) <= price.usd_per_hour
        assert price.watts > 0


def test_init_hands_out_the_cluster_files_of_the_repository() -> None:
    packaged = resources.files("mlcluster.cli") / "templates" / "cluster-configs"
    assert dict(texts(packaged)) == dict(texts(FOLDER))


def texts(folder: Traversable | Path, inside: str = "") -> list[tuple[str, str]]:
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += texts(entry, f"{inside}{entry.name}/")
        else:
            found.append((f"{inside}{entry.name}", entry.read_text()))
    return found
