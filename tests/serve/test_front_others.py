"""Requests for models beside the own one, through a real HAProxy: each model has a replica that it goes to."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest

from mlcluster.serve.front.door import FrontDoor
from mlcluster.serve.front.haproxy_config import OTHERS_BACKEND
from mlcluster.serve.other_models import ServedModel, ServedModels
from tests.serve.answers import eventually
from tests.serve.front_site import Site, site
from tests.serve.load import Load
from tests.serve.test_many_models import OTHERS

__all__ = ["site"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

NUM_MODELS = 12
NAMES = {f"model{number}": f"model{number}/1" for number in range(NUM_MODELS)}
OTHER_PATHS = [f"/v2/models/{name}/infer" for name in NAMES]


@pytest.fixture
def at(site) -> Iterator[Site]:
    """Three replicas, and models beside the own one."""
    found = site(others=NAMES | {"model0@challenger": "model0/1", "model0/1": "model0/1"})
    for name in ("a", "b", "c"):
        found.add(name, seconds=0.0)
    yield found


def homes(at: Site) -> dict[str, str]:
    """Which replica answers each model, asked one after another."""
    with httpx.Client(base_url=at.url) as client:
        return {path: client.post(path).text for path in OTHER_PATHS}


def test_the_names_are_those_that_requests_have() -> None:
    own = ServedModel(name="demo", version="3", aliases=("champion",))
    assert ServedModels(own, [one.model for one in OTHERS]).names_of_others() == {
        "demo/2": "demo/2",
        "demo@challenger": "demo/2",
        "bikes/8": "bikes/8",
        "bikes/7": "bikes/7",
        "bikes@champion": "bikes/7",
        "bikes": "bikes/7",
    }


def test_a_model_goes_to_one_replica_by_all_its_names_and_models_are_shared_out(at: Site) -> None:
    first = homes(at)
    assert homes(at) == first
    assert set(first.values()) == {"a", "b", "c"}
    for path in ("model0@challenger/infer", "model0%40challenger/infer", "model0/versions/1/infer", "model0/ready"):
        answer = httpx.post(f"{at.url}/v2/models/{path}")
        assert answer.text == first["/v2/models/model0/infer"]
        assert answer.headers["x-seen-path"] == f"/v2/models/{path}"


@pytest.mark.parametrize("path", ["/v2/models/demo/infer", "/invocations", "/v2/models/model0/versions/9/infer"])
def test_the_own_model_goes_to_the_replica_with_the_fewest_requests(at: Site, path: str) -> None:
    with httpx.Client(base_url=at.url) as client:
        answers = Counter(client.post(path).text for _ in range(30))
    assert answers == {"a": 10, "b": 10, "c": 10}


def test_a_replica_that_dies_costs_no_request_and_moves_its_own_models_alone(at: Site) -> None:
    before = homes(at)
    with Load(at.url + OTHER_PATHS[0], per_second=30) as load:
        time.sleep(1)
        at.kill(before[OTHER_PATHS[0]])
        time.sleep(2)
    assert load.lost == []
    after = homes(at)
    dead = before[OTHER_PATHS[0]]
    assert dead not in after.values()
    assert {path for path in before if before[path] != after[path]} == {path for path in before if before[path] == dead}


def test_a_replica_that_comes_takes_some_models_and_one_that_drains_gives_its_own_away(at: Site) -> None:
    before = homes(at)
    at.add("d", seconds=0.0)
    grown = homes(at)
    moved = {path for path in before if before[path] != grown[path]}
    assert 0 < len(moved) < NUM_MODELS / 2
    assert {grown[path] for path in moved} == {"d"}
    at.door.drain("d")
    assert homes(at) == before
    at.door.forget("d")
    assert homes(at) == before


def test_where_no_replica_is_left_the_waiting_room_answers(at: Site) -> None:
    for name in ("a", "b", "c"):
        at.door.drain(name)
    assert set(homes(at).values()) == {"room"}


def test_one_that_is_asked_more_than_its_share_spreads_to_the_next_replica(site) -> None:
    at = site(others=NAMES)
    for name in ("a", "b", "c"):
        at.add(name, seconds=0.3)
    with ThreadPoolExecutor(12) as pool, httpx.Client(base_url=at.url, timeout=20) as client:
        texts = Counter(answer.text for answer in pool.map(client.post, [OTHER_PATHS[0]] * 12))
    assert 2 <= len(texts) <= 3
    assert max(texts.values()) <= 9


def test_their_requests_count_for_the_load_of_a_replica(site) -> None:
    at = site(others=NAMES)
    replica = at.start("a", seconds=0.0)
    at.door.register(replica)
    at.wait_until_up(replica.address.port)
    at.door.measure()
    assert at.door.register(replica) == 0
    assert httpx.post(at.url + OTHER_PATHS[0]).text == "a"
    at.door.measure()
    assert at.door.register(replica) > 0


def test_what_is_full_of_them_says_so(site) -> None:
    at = site(others=NAMES, max_per_replica=1, max_queued=0)
    at.add("a", seconds=1.0)
    with ThreadPoolExecutor(8) as pool, httpx.Client(base_url=at.url, timeout=20) as client:
        statuses = Counter(answer.status_code for answer in pool.map(client.post, [OTHER_PATHS[0]] * 8))
    assert set(statuses) <= {200, 429}
    assert statuses[429] > 0


def test_another_deployment_brings_its_own_models(at: Site) -> None:
    assert num_homes(at, "bikes") == 3
    at.door.reopen(replace(at.plan, others={"bikes": "bikes/7"}))
    assert eventually(lambda: (num_homes(at, "bikes"), num_homes(at, "model0")) == (1, 3))
    at.door.reopen(replace(at.plan, others={}))
    assert eventually(lambda: num_homes(at, "bikes") == 3)
    assert OTHERS_BACKEND not in (at.folder / "haproxy.cfg").read_text()


def num_homes(at: Site, name: str) -> int:
    """How many replicas answer a model, asked nine times one after another."""
    with httpx.Client(base_url=at.url) as client:
        return len({client.post(f"/v2/models/{name}/infer").text for _ in range(9)})


def test_a_haproxy_that_was_killed_knows_where_each_model_goes(at: Site) -> None:
    before = homes(at)
    at.haproxy().kill()
    deadline = time.monotonic() + 20
    while True:
        try:
            found = homes(at)
            break
        except httpx.HTTPError:
            assert time.monotonic() < deadline
    assert found == before


def test_a_door_that_was_kept_has_its_models_too(at: Site) -> None:
    heir = FrontDoor.kept(at.folder, watched_pid=os.getpid())
    assert heir is not None
    assert heir.replicas() == ["a", "b", "c"]
    before = homes(at)
    heir.drain(before[OTHER_PATHS[0]])
    assert before[OTHER_PATHS[0]] not in homes(at).values()
