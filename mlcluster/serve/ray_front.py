"""The front door on a Ray cluster: an actor on the head node, which replicas and deployments talk to.

The actor only steers: requests go through HAProxy, which a keeper process keeps alive without it. One that is killed is
started again by Ray, and finds the door as it was.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from mlcluster.errors import ClusterError
from mlcluster.serve.front.door import FrontDoor
from mlcluster.serve.front.haproxy_config import Address
from mlcluster.serve.front.loads import SOME_LOAD
from mlcluster.serve.front.plan import FrontPlan
from mlcluster.serve.front.replica_slots import ReplicaSocket
from mlcluster.serve.kept_bundles import KeptBundles

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
        self._bundles = KeptBundles(self._folder / "bundles")
        self._door = FrontDoor.kept(self._folder, watched_pid=self._raylet_pid)
        threading.Thread(target=self._tend, daemon=True).start()

    def open(self, plan: FrontPlan) -> None:
        """Opens the door, or has it go on under this plan."""
        if self._door is None:
            plan = replace(plan, replica_secret=secrets.token_urlsafe(32))
            self._door = FrontDoor(plan, folder=self._folder, watched_pid=self._raylet_pid)
        else:
            self._door.reopen(plan)

    def app(self) -> str:
        """The application that answers; empty where none does."""
        return "" if self._door is None else self._door.app

    def replica_secret(self) -> str:
        """What each request to a replica bears."""
        if self._door is None:
            raise ClusterError("front = it is not open yet; ask again in a second.")
        return self._door.replica_secret

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

    def keep(self, files: Mapping[str, bytes]) -> None:
        """Keeps a bundle for the replicas that will ask for it."""
        self._bundles.keep(files)

    def bundle(self, digest: str) -> dict[str, bytes]:
        return self._bundles.files(digest)

    def drop_bundles_but(self, digests: Collection[str]) -> None:
        self._bundles.drop_all_but(digests)

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

    def __init__(self, name: str, *, app: str, replica_id: str) -> None:
        self._name = name
        self._app = app
        self._replica_id = replica_id
        self._task: asyncio.Task[None] | None = None
        self._actor: Any = None
        self.num_in_flight = SOME_LOAD
        """Mean over the last second, by the front's count; one that has not begun is wanted."""

    async def ask(self, method: str, *arguments: Any) -> Any:
        """What a method of `Front` gives.

        Raises:
            ClusterError: it does not answer, or refuses.
        """
        try:
            if self._actor is None:
                self._actor = ray.get_actor(_actor_name(self._name), namespace=_NAMESPACE)
            return await asyncio.wait_for(getattr(self._actor, method).remote(*arguments), timeout=_CALL_SECONDS)
        except (RayError, ValueError, TimeoutError) as error:
            self._actor = None
            raise ClusterError(f"front = {self._name} does not answer {method} ({error}); see its log.") from error

    async def replica_secret(self) -> str:
        """What the front's requests bear; waits for a front that is on its way back."""
        while True:
            secret = await self._say("replica_secret")
            if secret is not None:
                return str(secret)
            await asyncio.sleep(_BEAT_SECONDS)

    def start(self, address: Address, *, grpc: Address | None) -> None:
        """From now on, the replica answers at `address`, and by gRPC at `grpc`."""
        replica = ReplicaSocket(app=self._app, replica_id=self._replica_id, address=address, grpc=grpc)
        self._task = asyncio.get_running_loop().create_task(self._beat(replica))

    async def end(self) -> None:
        """The replica gets no new request from now on."""
        if self._task is not None:
            self._task.cancel()
        await self._say("drain", self._replica_id)

    async def forget(self) -> None:
        """The replica has answered all that it had."""
        await self._say("forget", self._replica_id)

    async def _beat(self, replica: ReplicaSocket) -> None:
        while True:
            answer = await self._say("register", replica)
            if answer is not None:
                self.num_in_flight = answer
            await asyncio.sleep(_BEAT_SECONDS)

    async def _say(self, method: str, *arguments: Any) -> Any:
        """None where the front does not answer: it may be on its way back."""
        try:
            return await self.ask(method, *arguments)
        except ClusterError as error:
            log.warning("the front did not hear %s of %s: %s", method, self._replica_id, error)
            return None


def _actor_name(name: str) -> str:
    return f"front of {name}"
