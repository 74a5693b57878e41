"""Replicas that do what a new version must not, or slowly: for `test_new_versions.py` and the benchmarks of faults."""

from __future__ import annotations

import asyncio

import orjson

from mlcluster.serve.metrics import Replica
from mlcluster.serve.ray_app import ModelReplica


class FailsToLoad(ModelReplica):
    def build(self, replica: Replica):
        raise ValueError("the weights are of another model")


class Answers500(ModelReplica):
    def build(self, replica: Replica):
        return instead_of_posts(super().build(replica), 500, b"{}")


class AnswersNaN(ModelReplica):
    def build(self, replica: Replica):
        body = orjson.dumps({"outputs": [{"name": "probabilities", "data": [None, None]}]})
        return instead_of_posts(super().build(replica), 200, body.replace(b"null", b"NaN"))


class AnswersOtherwise(ModelReplica):
    def build(self, replica: Replica):
        body = orjson.dumps({"outputs": [{"name": "probabilities", "data": [0.5, 0.5]}]})
        return instead_of_posts(super().build(replica), 200, body)


class Slow(ModelReplica):
    """Takes 0.3 s for each request."""

    seconds = 0.3

    def build(self, replica: Replica):
        app, seconds = super().build(replica), self.seconds

        async def slow(scope, receive, send) -> None:
            if scope["type"] == "http" and scope["method"] == "POST":
                await asyncio.sleep(seconds)
            await app(scope, receive, send)

        return slow


class TooSlow(Slow):
    seconds = 1.2


def instead_of_posts(app, status: int, body: bytes):
    async def answering(scope, receive, send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    return answering
