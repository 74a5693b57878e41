"""A replica's gRPC server in this process, in an event loop of its own, for tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mlcluster.registry import Bundle
from mlcluster.serve import Predictor, RequestLimits, build_app
from mlcluster.serve.front.haproxy_config import Address
from mlcluster.serve.grpc.server import GrpcServer
from mlcluster.serve.many_models import OtherApps
from mlcluster.serve.short_way.path import FastPath
from tests.registry.bundles import sample_bundle
from tests.serve.app_client import AppClient
from tests.serve.conftest import MemoryRecords


@dataclass(frozen=True, kw_only=True)
class GrpcSite:
    """Where it answers; `http` asks the same application."""

    address: Address
    http: AppClient
    records: MemoryRecords


@contextmanager
def grpc_site(bundle: Bundle | None = None, limits: RequestLimits | None = None) -> Iterator[GrpcSite]:
    records = MemoryRecords()
    app = build_app(Predictor(bundle or sample_bundle()), record=records, limits=limits)
    with served_by_grpc(app) as address:
        http = AppClient(app)
        yield GrpcSite(address=address, http=http, records=records)
        http.close()


@contextmanager
def served_by_grpc(app: FastPath, others: OtherApps | None = None, **settings: str) -> Iterator[Address]:
    """Where the application answers meanwhile; `settings` are of `GrpcServer`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def opened() -> GrpcServer:
        server = GrpcServer(app.by_columns, others, host="127.0.0.1", **settings)
        await server.start()
        return server

    server = asyncio.run_coroutine_threadsafe(opened(), loop).result(10)
    try:
        yield server.address
    finally:
        asyncio.run_coroutine_threadsafe(server.close(grace_seconds=1), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
