"""Our replica where a project has it: behind the front door, which asks for a key."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import tempfile
from pathlib import Path

from mlcluster.registry import Bundle
from mlcluster.serve.front.api_keys import ApiKey, sha256_of
from mlcluster.serve.front.door import FrontDoor
from mlcluster.serve.front.haproxy_config import Address
from mlcluster.serve.front.plan import FrontAccess, FrontPlan
from mlcluster.serve.front.replica_slots import ReplicaSocket
from mlcluster.serve.replica_server import ReplicaServer
from serve_bench.own import build
from serve_bench.requests import KEY

_HOST = "127.0.0.1"


def run(bundle_folder: Path, port: int, scratch: Path) -> None:
    """Both, until this process is ended."""
    import uvloop

    uvloop.run(_serve(bundle_folder, port, scratch))


async def _serve(bundle_folder: Path, port: int, scratch: Path) -> None:
    ended = asyncio.Event()
    app, secret = build(Bundle.read(bundle_folder), scratch / "records-front"), secrets.token_urlsafe(32)
    server = ReplicaServer(app, host=_HOST, front_secret=secret)
    server.start()
    await asyncio.sleep(0.2)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    plan = FrontPlan(
        public=Address(host=_HOST, port=port),
        waiting_room=Address(host=_HOST, port=9),
        num_slots=64,
        app="bench",
        replica_secret=secret,
        access=FrontAccess(keys=(ApiKey(name="bench", sha256=sha256_of(KEY), per_second=10**6),)),
    )
    folder = Path(tempfile.mkdtemp(prefix="mlc-front-"))
    door = await asyncio.to_thread(lambda: FrontDoor(plan, folder=folder, watched_pid=os.getpid()))
    try:
        replica = ReplicaSocket(app="bench", replica_id="bench", address=server.address)
        await asyncio.to_thread(door.register, replica)
        await ended.wait()
    finally:
        door.close(forgets=True)
