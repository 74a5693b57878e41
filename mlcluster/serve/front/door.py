"""The front door of an endpoint: who stands behind it, and that it stays open.

It steers a keeper process (see `keeper.py`), which outlives it: a second `FrontDoor` over the same folder takes
over the first one's keeper and table, without a request noticing. What HAProxy is told at run time is also written to
its configuration, so that one that is started again knows the replicas.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mlcluster.errors import ClusterError
from mlcluster.serve.front.files import FrontFiles
from mlcluster.serve.front.haproxy_config import APP_KEY, BACKEND, GRPC_BACKEND, OTHERS_BACKEND
from mlcluster.serve.front.haproxy_others import with_followers
from mlcluster.serve.front.haproxy_socket import command, mapping, read_loads
from mlcluster.serve.front.loads import SOME_LOAD, FrontLoads
from mlcluster.serve.front.plan import FrontPlan
from mlcluster.serve.front.process import FrontProcess, check_free
from mlcluster.serve.front.replica_slots import ReplicaSlots, ReplicaSocket

log = logging.getLogger(__name__)


class FrontDoor:
    """An open front door; threads may share it.

    `folder` is short (a Unix socket's path has 107 characters) and for its owner alone. With the process `watched_pid`
    ends everything that was started here.

    Raises:
        ClusterError: the port cannot be opened, or HAProxy does not start.
    """

    def __init__(self, plan: FrontPlan, *, folder: Path, watched_pid: int) -> None:
        self._lock = threading.RLock()
        self._plan = plan
        self._files = FrontFiles(folder)
        self._process = FrontProcess(self._files, watched_pid=watched_pid)
        self._loads = FrontLoads()
        self._slots = self._files.kept_slots(plan)
        if plan.grpc is not None and not self._process.is_alive:
            check_free(plan.grpc)
        self._files.write(plan, self._slots)
        self.watch()

    @classmethod
    def kept(cls, folder: Path, *, watched_pid: int) -> FrontDoor | None:
        """The door that was opened over this folder before, with its last plan; None where there was none."""
        plan = FrontFiles(folder).kept_plan() if folder.exists() else None
        return None if plan is None else cls(plan, folder=folder, watched_pid=watched_pid)

    @property
    def app(self) -> str:
        """The application that answers."""
        return self._plan.app

    @property
    def replica_secret(self) -> str:
        """What each request to a replica bears."""
        return self._plan.replica_secret

    def reopen(self, plan: FrontPlan) -> None:
        """Goes on under another plan: at once where only limits or keys differ, at another port as a new door.

        Replicas keep their slots, and the application that answers goes on to.
        """
        with self._lock:
            plan = replace(plan, app=self._plan.app, replica_secret=self._plan.replica_secret)
            if plan == self._plan:
                return
            has_moved = plan.public != self._plan.public
            if plan.grpc not in (None, self._plan.grpc):
                check_free(plan.grpc)
            kept = self._slots.taken
            self._plan = plan
            self._slots = ReplicaSlots(plan.num_slots, plan.app)
            self._slots.restore(kept)
            self._files.write(plan, self._slots)
            if has_moved:
                self._process.end()
                self.watch()
            else:
                self._process.reload()

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
            lines = (mapping(self._files.app_map, APP_KEY, f"/{app}"),)
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
            if not self._process.is_alive:
                self._process.start(self._plan.public)

    def measure(self) -> None:
        """Asks HAProxy how many requests each replica has; to be called again and again."""
        with self._lock:
            try:
                by_index, num_queued = read_loads(self._files.admin_socket, BACKEND)
                for backend in self._more_backends:
                    more, num_more = read_loads(self._files.admin_socket, backend)
                    by_index = {index: load + more[index] for index, load in by_index.items() if index in more}
                    num_queued += num_more
            except ClusterError as error:
                log.debug("%s", error)
                return
            taken = {index: slot for index, slot in enumerate(self._slots.taken) if slot is not None}
            found = {slot.replica.replica_id: by_index[index] for index, slot in taken.items() if index in by_index}
            self._loads.add(found, num_queued=num_queued)

    @property
    def _more_backends(self) -> list[str]:
        """Beside the one of the own model over HTTP."""
        is_there = {GRPC_BACKEND: self._plan.grpc is not None, OTHERS_BACKEND: bool(self._plan.others)}
        return [backend for backend, wanted in is_there.items() if wanted]

    def replicas(self) -> list[str]:
        """Ids of those that get requests."""
        with self._lock:
            return [slot.replica.replica_id for slot in self._slots.taken if slot is not None and not slot.is_draining]

    def close(self, *, forgets: bool = False) -> None:
        """Ends the keeper and HAProxy; requests in flight are cut off. With `forgets`, the folder goes too."""
        with self._lock:
            self._process.end()
            if forgets:
                self._files.remove()

    def _change(self, change: Callable[[], tuple[str, ...]]) -> None:
        with self._lock:
            commands = change()
            if not commands:
                return
            if self._plan.others:
                commands = with_followers(commands)
            self._files.write(self._plan, self._slots)
            try:
                problem = command(self._files.admin_socket, commands)
            except ClusterError as error:
                # One that is being started reads the configuration, which says the same.
                log.warning("the front did not take %s: %s", commands, error)
            else:
                log.info("front %s%s", "; ".join(commands), f": {problem}" if problem else "")
