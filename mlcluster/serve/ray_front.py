"""The front door on a Ray cluster: an actor on the head node, which replicas and deployments talk to.

The actor only steers: requests go through HAProxy, which a keeper process keeps alive without it. One that is killed is
started again by Ray, and finds the door as it was.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from mlcluster.errors import ClusterError
from mlcluster.serve.front_door import FrontDoor
from mlcluster.serve.front_plan import FrontPlan
from mlcluster.serve.replica_slots import ReplicaSocket

log = logging.getLogger(__name__)

_NAMESPACE = "mlcluster"
_HEAD = {"node:__internal_head__": 0.001}
_SAMPLE_SECONDS = 0.25
_BEAT_SECONDS = 1.0
_CALL_SECONDS = 10.0


class Front:
    """The actor around one `FrontDoor`; `name` is of the endpoint."""

    def __init__(self, name: str) -> None:
        self._raylet_pid = os.getppid()
        # Short, and of this Ray alone: everything ends, and the folder goes, with the node's raylet.
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        self._folder = Path(tempfile.gettempdir()) / f"mlc-front-{self._raylet_pid}-{digest}"
        self._door = FrontDoor.kept(self._folder, watched_pid=self._raylet_pid)
        threading.Thread(target=self._tend, daemon=True).start()

    def open(self, plan: FrontPlan) -> None:
        """Opens the door, or has it go on under this plan."""
        if self._door is None:
            self._door = FrontDoor(plan, folder=self._folder, watched_pid=self._raylet_pid)
        else:
            self._door.reopen(plan)

    def app(self) -> str:
        """The application that answers; empty where none does."""
        return "" if self._door is None else self._door.app

    def register(self, replica: ReplicaSocket) -> float:
        """See `FrontDoor.register`."""
        return 0.0 if self._door is None else self._door.register(replica)

    def drain(self, replica_id: str) -> None:
        if self._door is not None:
            self._door.drain(replica_id)

    def forget(self, replica_id: str) -> None:
        if self._door is not None:
            self._door.forget(replica_id)

    def candidates(self, app: str) -> list[ReplicaSocket]:
        return [] if self._door is None else self._door.candidates(app)

    def replicas(self) -> list[str]:
        return [] if self._door is None else self._door.replicas()

    def switch(self, app: str) -> None:
        assert self._door is not None
        self._door.switch(app)

    def close(self) -> None:
        """Closes the door; nothing answers from then on."""
        door, self._door = self._door, None
        if door is not None:
            door.close(forgets=True)

    def _tend(self) -> None:
        watched_at = 0.0
        while True:
            door = self._door
            try:
                if door is not None:
                    door.measure()
                    if time.monotonic() - watched_at > _BEAT_SECONDS:
                        watched_at = time.monotonic()
                        door.watch()
            except (ClusterError, OSError):
                log.exception("the front could not be tended")
            time.sleep(_SAMPLE_SECONDS)


def open_front(name: str, plan: FrontPlan) -> FrontHandle:
    """The front of the endpoint `name`, open under `plan`.

    Raises:
        ClusterError: the port cannot be opened, or the actor cannot be started.
    """
    options = {"name": _actor_name(name), "namespace": _NAMESPACE, "get_if_exists": True, "lifetime": "detached"}
    actor = ray.remote(Front).options(
        **options, num_cpus=0, max_restarts=-1, max_task_retries=3, resources=_HEAD, max_concurrency=8
    )
    handle = FrontHandle(actor.remote(name))
    handle.call("open", plan)
    return handle


def find_front(name: str) -> FrontHandle | None:
    """The front of the endpoint `name`, if it has one."""
    try:
        return FrontHandle(ray.get_actor(_actor_name(name), namespace=_NAMESPACE))
    except ValueError:
        return None


class FrontHandle:
    """What a deployment asks of the front."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def call(self, method: str, *arguments: Any) -> Any:
        """Calls a method of `Front`.

        Raises:
            ClusterError: what it raises, or that the actor does not answer.
        """
        try:
            return ray.get(getattr(self._actor, method).remote(*arguments), timeout=3 * _CALL_SECONDS)
        except RayTaskError as error:
            if isinstance(error.cause, ClusterError):
                raise error.cause from None
            raise ClusterError(f"front = {method} failed ({error.cause}); see the log of the actor Front.") from error
        except RayError as error:
            raise ClusterError(f"front = {method} failed ({error}); see the log of the actor Front.") from error

    def end(self) -> None:
        """Closes the door and ends the actor."""
        self.call("close")
        ray.kill(self._actor)


class FrontBeat:
    """A replica's word to the front, once a second: that it is there, and where."""

    def __init__(self, name: str, replica: ReplicaSocket) -> None:
        self._name = name
        self._replica = replica
        self._task: asyncio.Task[None] | None = None
        self._actor: Any = None
        self.num_in_flight = 0.0
        """Mean over the last second, by the front's count."""

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._beat())

    async def end(self) -> None:
        """The replica gets no new request from now on."""
        if self._task is not None:
            self._task.cancel()
        await self._say("drain", self._replica.replica_id)

    async def forget(self) -> None:
        """The replica has answered all that it had."""
        await self._say("forget", self._replica.replica_id)

    async def _beat(self) -> None:
        while True:
            answer = await self._say("register", self._replica)
            if answer is not None:
                self.num_in_flight = answer
            await asyncio.sleep(_BEAT_SECONDS)

    async def _say(self, method: str, *arguments: Any) -> Any:
        """None where the front does not answer: it may be on its way back."""
        try:
            if self._actor is None:
                self._actor = ray.get_actor(_actor_name(self._name), namespace=_NAMESPACE)
            return await asyncio.wait_for(getattr(self._actor, method).remote(*arguments), timeout=_CALL_SECONDS)
        except (RayError, ValueError, TimeoutError) as error:
            self._actor = None
            log.warning("the front did not hear %s of %s: %s", method, self._replica.replica_id, error)
            return None


def _actor_name(name: str) -> str:
    return f"front of {name}"
