"""The Serve application as KubeRay's RayService names it, from the very words of the shipped file."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from mlcluster.errors import BundleError, SpecError
from mlcluster.registry.signature import write_key_pair
from tests.registry.bundles import sample_bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("default")]
FILE = Path(__file__).resolve().parents[2] / "cluster-configs" / "kuberay" / "rayservice.yaml"


def shipped_application() -> dict[str, Any]:
    service = next(iter(yaml.safe_load_all(FILE.read_text())))
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    assert isinstance(application, dict)
    return application


@pytest.fixture
def bundle_folder(tmp_path: Path) -> Path:
    sample_bundle().write(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def serve_port(ray_session: None) -> Iterator[int]:
    from ray import serve

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    yield port
    serve.shutdown()


def test_the_model_of_the_shipped_file_answers(bundle_folder: Path, serve_port: int) -> None:
    from ray import serve
    from ray._common.utils import import_attr
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary

    application = shipped_application()
    arguments = {**application["args"], "bundle": str(bundle_folder), "min_replicas": 1, "max_replicas": 1}
    built = call_user_app_builder_with_args_if_necessary(import_attr(application["import_path"]), arguments)
    serve.run(built, name=application["name"], route_prefix=application["route_prefix"])
    ready = httpx.get(f"http://127.0.0.1:{serve_port}/v2/health/ready", timeout=30)
    assert ready.status_code == 200
    rows = {"dataframe_records": [dict(sample_bundle().input_example[0])]}
    answer = httpx.post(f"http://127.0.0.1:{serve_port}/invocations", json=rows, timeout=30)
    assert answer.status_code == 200, answer.text


def test_an_unknown_argument_and_an_unsigned_bundle_are_refused(bundle_folder: Path, tmp_path: Path) -> None:
    from mlcluster.serve.ray_service import app

    with pytest.raises(SpecError, match=r"bundel = y is not a key; did you mean bundle\."):
        app({"bundle": "x", "bundel": "y"})
    _, public = write_key_pair(tmp_path / "team.pem")
    with pytest.raises(BundleError, match="sign"):
        app({"bundle": str(bundle_folder), "trusted_keys": [str(public)]})
