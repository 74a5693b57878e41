"""A real HAProxy before real servers: what is killed, stalls, is too large or too much."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from mlcluster.errors import ClusterError
from mlcluster.serve import read_records
from mlcluster.serve.front.door import FrontDoor
from mlcluster.serve.front.haproxy_config import Address, FrontLimits
from mlcluster.serve.front.keeper import is_alive
from mlcluster.serve.front.plan import FrontPlan
from tests.registry.bundles import sample_table
from tests.serve.answers import eventually
from tests.serve.front_site import free_port, site
from tests.serve.load import Load, asks_again

__all__ = ["site"]
FAULTS = Path(__file__).parents[2] / "docs" / "serving-faults.md"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def test_a_killed_server_costs_no_request(site) -> None:
    at = site()
    at.add("a")
    at.add("b")
    with Load(at.url) as load:
        time.sleep(1.5)
        at.kill("a")
        time.sleep(2.5)
    assert len(load.answers) > 40
    assert load.lost == []
    assert set(load.texts) == {"a", "b"}
    # What the dead one had is asked again of the other: twice the work at most.
    assert max(answer.seconds for answer in load.answers) < 2


def test_the_waiting_room_takes_what_no_server_can(site) -> None:
    at = site()
    assert httpx.post(at.url).text == "room"
    at.add("a")
    assert httpx.post(at.url).text == "a"
    with Load(at.url) as load:
        time.sleep(1)
        at.kill("a")
        time.sleep(1)
        at.add("b")
        time.sleep(1)
    assert load.lost == []
    assert set(load.texts) == {"a", "room", "b"}


def test_a_draining_server_answers_what_it_has_and_gets_nothing_new(site) -> None:
    at = site()
    at.add("a", seconds=1.0)
    with Load(at.url, per_second=5) as load:
        time.sleep(0.6)
        at.door.drain("a")
        time.sleep(1.5)
        at.door.forget("a")
        at.kill("a")
        time.sleep(0.5)
    assert load.lost == []
    assert 2 <= load.texts.count("a") <= 4
    assert load.texts.count("room") > 5
    assert at.door.replicas() == []


def test_a_killed_haproxy_is_back_within_a_second_and_refuses_nobody(site) -> None:
    at = site()
    at.add("a", seconds=0.0)
    killed = at.haproxy()
    killed.kill()
    started = time.monotonic()
    # Sent while it is gone: the port is the keeper's, so the connection waits rather than fails.
    assert httpx.post(at.url, timeout=10).text == "a"
    assert time.monotonic() - started < 3
    assert at.haproxy().pid != killed.pid


def test_clients_that_ask_again_lose_nothing_to_a_killed_haproxy_and_others_what_was_in_flight(site) -> None:
    at = site()
    at.add("a")
    with Load(at.url) as once, Load(at.url, client=asks_again) as again:
        time.sleep(1)
        at.haproxy().kill()
        time.sleep(1.5)
    assert 1 <= len(once.lost) <= 10
    assert len(again.answers) > 25
    assert again.lost == []
    assert max(answer.seconds for answer in again.answers) < 3


def test_the_client_of_the_docs_is_answered_and_both_of_its_predictions_are_recorded(site, tmp_path: Path) -> None:
    at = site()
    at.add_model("a", seconds=1.0, records=tmp_path)
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", FAULTS.read_text(), re.DOTALL)[0], names)
    body = {"instances": sample_table(1).to_pylist()}
    with ThreadPoolExecutor(1) as pool, names["client"] as client:
        url = f"{at.url}/invocations"
        asked = pool.submit(client.post, url, json=body, headers={"x-request-id": "mine"}, timeout=20)
        time.sleep(0.5)
        at.haproxy().kill()
        answer = asked.result()
    assert answer.status_code == 200
    assert eventually(lambda: len(list(read_records(tmp_path))) == 2)
    first, second = read_records(tmp_path)
    assert first.id != second.id == answer.headers["x-prediction-id"]
    assert first.request_id == second.request_id == "mine"


def test_a_killed_keeper_is_replaced_with_its_servers_and_refuses_nobody(site) -> None:
    at = site()
    at.add("a", seconds=0.0)
    os.kill(int((at.folder / "keeper.pid").read_text()), signal.SIGKILL)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(lambda: httpx.post(at.url, timeout=10).text)
        time.sleep(0.5)
        at.door.watch()
        assert asked.result() == "a"


def test_a_killed_keeper_takes_no_request_along(site) -> None:
    at = site()
    at.add("a")
    keeper = int((at.folder / "keeper.pid").read_text())
    former = at.haproxy()
    with Load(at.url) as load:
        time.sleep(1)
        os.kill(keeper, signal.SIGKILL)
        time.sleep(0.5)
        at.door.watch()
        time.sleep(1)
    assert len(load.answers) > 25
    assert load.lost == []
    assert max(answer.seconds for answer in load.answers) < 3
    assert at.haproxy().pid != former.pid
    assert eventually(lambda: not is_alive(former.pid))


def test_a_second_door_over_the_same_folder_takes_over_the_first_ones_keeper(site) -> None:
    at = site()
    at.add("a", seconds=0.0)
    before = at.haproxy().pid
    heir = FrontDoor(at.plan, folder=at.folder, watched_pid=os.getpid())
    assert heir.replicas() == ["a"]
    assert at.haproxy().pid == before
    heir.forget("a")
    assert httpx.post(at.url).text == "room"


def test_another_version_takes_over_at_once_and_the_former_answers_what_it_has(site) -> None:
    at = site()
    at.add("old")
    new = at.start("new", app="two")
    at.door.register(new)
    assert [found.replica_id for found in at.door.candidates("two")] == ["new"]
    with Load(at.url) as load:
        time.sleep(1)
        assert set(load.texts) == {"old"}
        at.door.switch("two")
        switched = time.monotonic()
        at.wait_until_up(new.address.port)
        seconds = time.monotonic() - switched
        time.sleep(1)
        at.kill("old")
        time.sleep(1)
    assert load.lost == []
    assert load.texts[-1] == "new"
    # Between the two, while the new one is being asked whether it is ready, a request waits where Ray would hold it.
    assert load.texts.count("room") <= 15 * (seconds + 0.5)
    assert at.door.replicas() == ["new"]
    assert httpx.get(at.url).headers["x-seen-path"] == "/"


def test_the_waiting_room_is_asked_for_the_application_that_answers(site) -> None:
    at = site()
    assert httpx.get(f"{at.url}/v2/x?y=1").headers["x-seen-path"] == "/one/v2/x?y=1"
    at.door.switch("two")
    assert httpx.get(f"{at.url}/v2/x").headers["x-seen-path"] == "/two/v2/x"
    os.kill(at.haproxy().pid, signal.SIGKILL)
    assert httpx.get(f"{at.url}/v2/x", timeout=10).headers["x-seen-path"] == "/two/v2/x"


def test_a_door_that_was_left_is_found_again_with_its_last_plan(site) -> None:
    at = site()
    at.door.switch("two")
    heir = FrontDoor.kept(at.folder, watched_pid=os.getpid())
    assert heir is not None
    assert heir.app == "two"
    assert FrontDoor.kept(at.folder / "none", watched_pid=os.getpid()) is None


def test_the_front_counts_what_each_server_has_in_flight(site) -> None:
    at = site()
    at.add("a", seconds=0.5)
    at.add("b", seconds=0.0)
    replicas = {slot.replica.replica_id: slot.replica for slot in at.door._slots.taken if slot is not None}
    at.door.measure()
    assert [at.door.register(replicas[name]) for name in "ab"] == [0, 0]
    with Load(at.url, per_second=20):
        time.sleep(1)
        for _ in range(5):
            at.door.measure()
            time.sleep(0.1)
        busy, idle = (at.door.register(replicas[name]) for name in "ab")
    # 20 a second, half a second each; the quick one takes most of them, and is never met at work.
    assert 0.2 < busy < 10
    assert 0 < idle < busy
    assert at.door.register(replicas["a"]) == 0


def test_other_limits_hold_from_then_on_without_a_lost_request(site) -> None:
    at = site()
    at.add("a")
    with Load(at.url) as load:
        time.sleep(0.7)
        limits = FrontLimits(max_body_bytes=10)
        at.door.reopen(FrontPlan(public=at.plan.public, waiting_room=at.plan.waiting_room, num_slots=6, limits=limits))
        time.sleep(1.5)
    assert load.lost == []
    assert set(load.texts) == {"a"}
    assert httpx.post(at.url, content=b"x" * 11).status_code == 413


def test_stalled_uploads_hold_up_nobody_and_are_closed(site) -> None:
    at = site(header_seconds=2.0, max_per_replica=8)
    at.add("a", seconds=0.05)
    port = at.plan.public.port
    stalled = [socket.create_connection(("127.0.0.1", port)) for _ in range(120)]
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{"
    for connection in stalled:
        connection.sendall(head)
    started = time.monotonic()
    assert [httpx.post(at.url, content=b"{}", timeout=2).text for _ in range(8)] == ["a"] * 8
    for connection in stalled:
        connection.settimeout(10)
        answer = b"".join(iter(lambda connection=connection: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"application/problem+json" in answer
        connection.close()
    assert time.monotonic() - started < 8


def test_an_upload_of_a_byte_at_a_time_is_closed_too(site) -> None:
    at = site(header_seconds=1.5)
    with socket.create_connection(("127.0.0.1", at.plan.public.port)) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
        started = time.monotonic()
        answer = b""
        connection.settimeout(0.2)
        while not answer and time.monotonic() - started < 10:
            with contextlib.suppress(TimeoutError):
                connection.sendall(b"x")
                answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - started < 4


def test_an_answer_may_take_longer_than_a_client_may_be_silent(site) -> None:
    at = site(idle_seconds=0.5, header_seconds=0.5, answer_seconds=10)
    at.add("a", seconds=2.0)
    assert httpx.post(at.url, content=b"{}", timeout=10).text == "a"


def test_an_announced_length_over_the_limit_is_refused_unread(site) -> None:
    at = site(max_body_bytes=1_000)
    at.add("a", seconds=0.0)
    with socket.create_connection(("127.0.0.1", at.plan.public.port)) as connection:
        connection.settimeout(5)
        connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
    assert httpx.post(at.url, content=b"x" * 1_000).text == "a"


def test_one_request_too_many_is_told_when_to_come_back(site) -> None:
    at = site(max_per_replica=2, max_queued=2)
    at.add("a", seconds=1.0)
    url = at.url

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=30) as client:
            return await asyncio.gather(*(client.post(url, content=b"{}") for _ in range(12)))

    answers = asyncio.run(ask())
    taken = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert 4 <= len(taken) <= 5
    assert {(answer.status_code, answer.headers["retry-after"]) for answer in refused} == {(429, "1")}
    assert refused[0].json()["error_code"] == "REQUEST_LIMIT_EXCEEDED"
    assert refused[0].headers["x-request-id"]


def test_a_request_has_one_id_the_clients_own_where_it_is_plain(site) -> None:
    at = site()
    at.add("a", seconds=0.0)
    mine = httpx.get(at.url, headers={"x-request-id": "mine,1"})
    assert mine.headers.get_list("x-request-id") == [mine.headers["x-seen-id"]] == ["mine,1"]
    odd = httpx.get(at.url, headers={"x-request-id": "a b"})
    assert odd.headers["x-request-id"] == odd.headers["x-seen-id"] != "a b"
    assert odd.headers["x-request-id"] != httpx.get(at.url).headers["x-request-id"]


def test_a_port_that_is_taken_is_named(site) -> None:
    at = site()
    folder = Path(tempfile.mkdtemp(prefix="mlc-front-"))
    with pytest.raises(
        ClusterError, match=rf"serve\.port = {at.plan.public.port} on 127\.0\.0\.1 cannot be opened .*in use"
    ):
        FrontDoor(at.plan, folder=folder, watched_pid=os.getpid())
    shutil.rmtree(folder)


def test_everything_ends_with_the_process_that_is_watched(site) -> None:
    watched = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    plan = FrontPlan(
        public=Address(host="127.0.0.1", port=free_port()),
        waiting_room=Address(host="127.0.0.1", port=free_port()),
        num_slots=1,
    )
    folder = Path(tempfile.mkdtemp(prefix="mlc-front-"))
    door = FrontDoor(plan, folder=folder, watched_pid=watched.pid)
    keeper = int((folder / "keeper.pid").read_text())
    haproxy = psutil.Process(keeper).children()[0]
    watched.kill()
    watched.wait()
    deadline = time.monotonic() + 5
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()
    assert not is_alive(haproxy.pid)
    door.close()
