"""A front door on this machine with small servers behind it, for tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pytest

from mlcluster.serve.front.door import FrontDoor
from mlcluster.serve.front.haproxy_config import Address, FrontLimits
from mlcluster.serve.front.haproxy_socket import command
from mlcluster.serve.front.plan import FrontAccess, FrontPlan
from mlcluster.serve.front.replica_slots import ReplicaSocket

SERVER = Path(__file__).with_name("tiny_server.py")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Site:
    """A front, the servers behind it, and its waiting room, which answers `room`."""

    door: FrontDoor
    plan: FrontPlan
    folder: Path
    servers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://{self.plan.public}"

    def start(self, name: str, *, app: str = "one", seconds: float = 0.3) -> ReplicaSocket:
        port = free_port()
        self.servers[name] = start_server(port, seconds, name)
        return ReplicaSocket(app=app, replica_id=name, address=Address(host="127.0.0.1", port=port))

    def add_grpc(self, name: str, *, seconds: float = 0.0) -> None:
        """A replica that speaks gRPC too: a model, in a process of its own."""
        replica = self.start(name, seconds=seconds)
        address = self._start_module(f"{name} grpc", "tests.serve.tiny_grpc_server", str(seconds))
        self.door.register(replace(replica, grpc=address))
        self.wait_until_up(address.port)

    def add_model(self, name: str, *, seconds: float, records: Path | None = None) -> None:
        """A replica with a model that takes so long, in a process of its own."""
        kept = () if records is None else ("--records", str(records))
        address = self._start_module(name, "tests.serve.model_server", "--seconds", str(seconds), *kept)
        self.door.register(ReplicaSocket(app="one", replica_id=name, address=address))
        self.wait_until_up(address.port)

    def _start_module(self, name: str, module: str, *arguments: str) -> Address:
        address = Address(host="127.0.0.1", port=free_port())
        command = [sys.executable, "-m", module, str(address.port), *arguments]
        self.servers[name] = _started(subprocess.Popen(command, cwd=SERVER.parents[2]), address.port)
        return address

    def add(self, name: str, *, seconds: float = 0.3) -> None:
        replica = self.start(name, seconds=seconds)
        self.door.register(replica)
        self.wait_until_up(replica.address.port)

    def wait_until_up(self, port: int) -> None:
        deadline = time.monotonic() + 10
        while not self.is_up(port):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def is_up(self, port: int) -> bool:
        """Whether HAProxy has found the server at `port` to answer; by the columns of its `show stat`."""
        lines = command(self.folder / "admin.sock", ["show stat"]).splitlines()
        names = lines[0].lstrip("# ").split(",")
        rows = [dict(zip(names, line.split(","), strict=False)) for line in lines[1:]]
        return any(row["addr"] == f"127.0.0.1:{port}" and row["status"] == "UP" for row in rows)

    def kill(self, name: str) -> None:
        server = self.servers.pop(name)
        server.kill()
        server.wait()  # one that is dropped unwaited warns that it runs

    def haproxy(self) -> psutil.Process:
        keeper = psutil.Process(int((self.folder / "keeper.pid").read_text()))
        return keeper.children()[0]


def start_server(port: int, seconds: float, name: str) -> subprocess.Popen[bytes]:
    return _started(subprocess.Popen([sys.executable, str(SERVER), str(port), str(seconds), name]), port)


def _started(process: subprocess.Popen[bytes], port: int) -> subprocess.Popen[bytes]:
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return process
        time.sleep(0.05)
    raise AssertionError("the server did not start")


@pytest.fixture
def site() -> Iterator[Callable[..., Site]]:
    opened: list[Site] = []

    def open_site(
        *,
        room_seconds: float = 0.0,
        access: FrontAccess | None = None,
        grpc: bool = False,
        others: Mapping[str, str] | None = None,
        **limits: float,
    ) -> Site:
        room = Address(host="127.0.0.1", port=free_port())
        plan = FrontPlan(
            public=Address(host="127.0.0.1", port=free_port()),
            grpc=Address(host="127.0.0.1", port=free_port()) if grpc else None,
            waiting_room=room,
            num_slots=4,
            limits=FrontLimits(**limits),
            access=access or FrontAccess(),
            others=others or {},
            app="one",
        )
        folder = Path(tempfile.mkdtemp(prefix="mlc-front-"))
        found = Site(door=FrontDoor(plan, folder=folder, watched_pid=os.getpid()), plan=plan, folder=folder)
        opened.append(found)
        found.servers["room"] = start_server(room.port, room_seconds, "room")
        return found

    yield open_site
    for each in opened:
        each.door.close()
        for server in each.servers.values():
            server.kill()
            server.wait()
        shutil.rmtree(each.folder)
