"""The cluster files: Ray accepts them as they are, and `init` hands out the same ones."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "cluster-configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_ray_accepts_the_cluster_file(path: Path) -> None:
    import jsonschema
    import ray
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(path.read_text())
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(config, schema)
    validate_config(prepare_config(config))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_no_cluster_file_starts_ray_without_a_token(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    starts = [
        line for line in config["head_start_ray_commands"] + config["worker_start_ray_commands"] if "start" in line
    ]
    assert starts
    assert all("RAY_AUTH_MODE=token" in line for line in starts)


def test_init_hands_out_the_cluster_files_of_the_repository() -> None:
    packaged = resources.files("mlcluster.cli") / "templates" / "cluster-configs"
    assert {entry.name: entry.read_text() for entry in packaged.iterdir()} == {
        path.name: path.read_text() for path in CONFIGS
    }
