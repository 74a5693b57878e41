"""A replica whose every prediction takes a while longer: what is lost when something dies is what is in flight."""

from __future__ import annotations

import asyncio
from typing import Any

from mlcluster.serve.metrics import Replica
from mlcluster.serve.ray_app import ModelReplica

WORK_SECONDS = 0.3


class SlowReplica(ModelReplica):
    """Takes 0.3 s for each request, as one with much work and little CPU."""

    def build(self, replica: Replica) -> Any:
        app = super().build(replica)

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http" and scope["method"] == "POST":
                await asyncio.sleep(WORK_SECONDS)
            await app(scope, receive, send)

        return slow


class BrokenReplica(ModelReplica):
    """Cannot load its model."""

    def build(self, replica: Replica) -> Any:  # noqa: ARG002 - as the one that it stands for
        raise ValueError("the weights are of another model")
