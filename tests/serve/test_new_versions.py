"""A new version beside one that answers: good ones take over, bad ones never do; and how many replicas there are."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from mlcluster.errors import ClusterError
from mlcluster.registry import Bundle, to_onnx
from mlcluster.serve import Endpoint, Predictor
from mlcluster.serve.openapi import infer_example
from mlcluster.serve.plan import Neighbours, OtherBundle
from tests.registry.bundles import sample_bundle, sample_table
from tests.registry.structures import random_ensemble
from tests.serve.front_site import free_port
from tests.serve.load import Load
from tests.serve.test_ray_serving import plan_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("default")]
JSON = {"content-type": "application/json"}
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
    assert {json.loads(text)["metadata"]["model_version"] for text in load.texts} == {"1"}
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


def test_models_beside_it_answer_at_the_same_address_and_take_no_more_memory_than_they_may(endpoint: Endpoint) -> None:
    """Eight models of which three fit: those that are asked for are there, whoever asks in whatever order."""
    from mlcluster.serve.ray_deploy import deploy

    others = tuple(OtherBundle.of(forest(f"forest{index}"), aliases=("champion",)) for index in range(8))
    room = 3 * others[0].model.loaded_bytes
    plan = plan_for(sample_bundle(version="4"), port_of(endpoint), cpus_per_replica=0.1)
    plan = replace(plan, neighbours=Neighbours(own_aliases=("champion",), others=others, max_bytes=room))
    before = deploy(replace(plan, neighbours=Neighbours())).app_name
    alone = memory_of(before)
    app = deploy(plan).app_name
    order = np.random.default_rng(0).integers(0, 8, 60)
    with Load(f"{endpoint.url}/invocations", body=BODY) as load, ThreadPoolExecutor(4) as pool:
        names = [f"forest{index}@champion" for index in order]
        infer = json.dumps(infer_example(Predictor(sample_bundle()))).encode()
        answers = list(
            pool.map(
                lambda name: httpx.post(f"{endpoint.url}/v2/models/{name}/infer", content=infer, timeout=60), names
            )
        )
    assert [answer.status_code for answer in answers] == [200] * len(order)
    assert [answer.json()["model_name"] for answer in answers] == [f"forest{index}" for index in order]
    assert load.lost == []
    index = httpx.post(f"{endpoint.url}/v2/repository/index", timeout=60).json()
    assert 1 < sum(one["parameters"]["is_loaded"] for one in index) <= 4
    # Each took 20 MB, measured, and reading one as much for a moment; all eight would be at 160 MB.
    assert memory_of(app) - alone < room + 8 * len(others[0].bundle.model)


def test_a_replicas_own_port_answers_nobody_but_the_front(endpoint: Endpoint) -> None:
    import ray

    host = ray.util.get_node_ip_address()
    ports = {
        connection.laddr.port
        for process in replicas_of("demo-")
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.ip == host
    }
    answers = {}
    for port in ports:
        with contextlib.suppress(httpx.HTTPError):  # Ray's own sockets speak no HTTP
            answers[port] = httpx.post(f"http://{host}:{port}/invocations", content=BODY, timeout=10)
            assert (
                httpx.get(f"http://{host}:{port}/", headers={"x-mlcluster-front": "x"}, timeout=10).status_code == 401
            )
    assert {answer.status_code for answer in answers.values()} == {401}
    assert httpx.post(f"{endpoint.url}/invocations", content=BODY, headers=JSON, timeout=10).status_code == 200


def forest(name: str) -> Bundle:
    """Some 5 MB that take 20 in memory."""
    bundle = sample_bundle(encoding="ordinal")
    rng = np.random.default_rng(int(name[-1]))
    trees = random_ensemble(rng, num_inputs=bundle.transform.num_outputs, num_outputs=1, num_trees=4000, link="sigmoid")
    return replace(bundle, model=to_onnx(trees), card=replace(bundle.card, name=name, version="1"))


def replicas_of(prefix: str) -> list[psutil.Process]:
    title = f"ray::ServeReplica:{prefix}"
    return [process for process in psutil.process_iter(["cmdline"]) if title in " ".join(process.info["cmdline"] or [])]


def memory_of(app: str) -> int:
    """Bytes of the one replica, without what Ray shares."""
    (replica,) = replicas_of(f"{app}:")
    return int(replica.memory_full_info().uss)


def replica_type(name: str) -> Any:
    """Of `bad_replicas`, which brings Ray Serve: it warns of itself when it is imported."""
    from tests.serve import bad_replicas

    return getattr(bad_replicas, name)


def port_of(endpoint: Endpoint) -> int:
    return int(httpx.URL(endpoint.url).port or 0)
