"""A new version beside one that answers: good ones take over, bad ones never do; and how many replicas there are."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from mlcluster.errors import ClusterError
from mlcluster.serve import Endpoint
from tests.registry.bundles import sample_bundle, sample_table
from tests.serve.front_site import free_port
from tests.serve.load import Load
from tests.serve.test_ray_serving import plan_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("default")]
BODY = json.dumps({"instances": sample_table(1, seed=3).to_pylist()}).encode()


@pytest.fixture(scope="module")
def endpoint(ray_session: None) -> Iterator[Endpoint]:
    from ray import serve

    from mlcluster.serve.ray_deploy import deploy, undeploy

    yield deploy(plan_for(sample_bundle(version="1"), free_port(), cpus_per_replica=0.1))
    assert undeploy("demo")
    assert not undeploy("demo")
    serve.shutdown()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("FailsToLoad", "ValueError: the weights are of another model"),
        ("Answers500", "the new version answered 500 when it was tried"),
        ("AnswersNaN", "answered numbers that are not finite"),
        ("AnswersOtherwise", r"answered \[0\.5, 0\.5\], and its bundle says"),
        ("TooSlow", r"serve\.slowest_ms = 1000 is less than the 1\d\d\d ms"),
    ],
)
def test_a_bad_new_version_never_takes_over(endpoint: Endpoint, bad: str, reason: str) -> None:
    from ray import serve

    from mlcluster.serve.ray_deploy import deploy

    plan = plan_for(sample_bundle(version="2"), port_of(endpoint), cpus_per_replica=0.1)
    with (
        Load(f"{endpoint.url}/invocations", body=BODY) as load,
        pytest.raises(ClusterError, match=rf"{reason}.* The version that was served goes on\."),
    ):
        deploy(plan, replica_type=replica_type(bad), timeout_seconds=90)
    assert load.answers
    assert load.lost == []
    assert {json.loads(text)["metadata"]["model_version"] for _, text, _ in load.answers} == {"1"}
    deadline = time.monotonic() + 30
    while len(serve.status().applications) > 1 and time.monotonic() < deadline:
        time.sleep(0.5)
    assert set(serve.status().applications) == {endpoint.app_name}


def test_more_load_brings_more_replicas_and_less_takes_them_away_without_a_lost_request(endpoint: Endpoint) -> None:
    from ray import serve

    from mlcluster.serve.ray_deploy import deploy

    plan = plan_for(
        sample_bundle(version="3"),
        port_of(endpoint),
        cpus_per_replica=0.1,
        max_replicas=3,
        target_ongoing=2,
        upscale_delay_seconds=1.0,
        downscale_delay_seconds=3.0,
    )
    app = deploy(plan, replica_type=replica_type("Slow")).app_name

    def num_running() -> int:
        return serve.status().applications[app].deployments["model"].replica_states.get("RUNNING", 0)

    def wait_for(count: int) -> None:
        deadline = time.monotonic() + 60
        while num_running() != count and time.monotonic() < deadline:
            time.sleep(0.25)
        assert num_running() == count

    with Load(f"{endpoint.url}/invocations", body=BODY, per_second=2) as quiet:
        # 20 a second of 0.3 s each: six in flight, two of them for each replica.
        with Load(f"{endpoint.url}/invocations", body=BODY, per_second=20) as busy:
            wait_for(3)
        wait_for(1)
    assert len(quiet.answers) > 10
    assert busy.lost == quiet.lost == []


def replica_type(name: str) -> Any:
    """Of `bad_replicas`, which brings Ray Serve: it warns of itself when it is imported."""
    from tests.serve import bad_replicas

    return getattr(bad_replicas, name)


def port_of(endpoint: Endpoint) -> int:
    return int(httpx.URL(endpoint.url).port or 0)
