"""Several models at one address: each request goes to the application of the model that its path means."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from mlcluster.errors import BundleError, ClusterError, DataError
from mlcluster.registry import Bundle
from mlcluster.serve.memory import give_back_memory
from mlcluster.serve.other_models import ServedModel, ServedModels
from mlcluster.serve.predictor import Predictor
from mlcluster.serve.problem import RequestError
from mlcluster.serve.reception import ids_of, problem_response
from mlcluster.serve.shelf import Shelf
from mlcluster.serve.short_way.path import FastPath

log = logging.getLogger(__name__)

Fetch = Callable[[str], Awaitable[Mapping[str, bytes]]]
"""The files of a bundle by its digest."""
_RETRY_SECONDS = 1


class OtherApps:
    """The applications of the models beside the own one, loaded when they are asked for; for one event loop."""

    def __init__(
        self, models: ServedModels, *, fetch: Fetch, build: Callable[[Predictor], FastPath], max_bytes: int
    ) -> None:
        """`build` makes an application around a predictor; all of them take up to `max_bytes` of memory."""
        self.models = models
        self._fetch = fetch
        self._build = build
        self._max_bytes = max_bytes
        self._shelf: Shelf[str, FastPath] = Shelf(
            self._load,
            num_bytes=lambda path: models.others[path].loaded_bytes,
            max_bytes=max_bytes,
            clear_away=give_back_memory,
        )

    async def warm(self) -> None:
        """Loads as many as fit, in their order, so that the first request of each finds it there."""
        num_bytes = 0
        for path, other in self.models.others.items():
            num_bytes += other.loaded_bytes
            if num_bytes > self._max_bytes:
                return
            try:
                async with self._shelf.lent(path):
                    pass
            except (BundleError, ClusterError, DataError):
                log.exception("could not load %s before it is asked for", path)

    def index(self) -> list[dict[str, Any]]:
        """As the protocol's extension `model_repository` lists models; what is not loaded will be when asked for."""
        loaded = {self.models.own.path, *self._shelf.loaded}
        return [
            {
                "name": served.name,
                "version": served.version,
                "state": "READY",
                "reason": "" if served.path in loaded else "it is loaded when it is asked for",
                "parameters": {"aliases": list(served.aliases), "is_loaded": served.path in loaded},
            }
            for served in self.models.all
        ]

    @asynccontextmanager
    async def lent(self, served: ServedModel) -> AsyncIterator[FastPath]:
        """The application of one of `models` that is not the own one, loaded first where it is not.

        Raises:
            RequestError: 503, where it cannot be loaded.
        """
        try:
            async with self._shelf.lent(served.path) as app:
                yield app
        except (BundleError, ClusterError, DataError) as error:
            log.exception("could not load %s", served.path)
            detail = f"version {served.version} of {served.name} cannot be loaded ({error}); try again in a second."
            raise RequestError(503, detail, headers={"retry-after": str(_RETRY_SECONDS)}) from error

    async def _load(self, path: str) -> FastPath:
        other = self.models.others[path]
        files = await self._fetch(other.digest)
        app = await asyncio.to_thread(self._built, files)
        log.info("loaded %s", path)
        return app

    def _built(self, files: Mapping[str, bytes]) -> FastPath:
        predictor = Predictor(Bundle.from_files(files))
        predictor.warm_up()
        give_back_memory()  # what reading it took is as much again
        return self._build(predictor)


def no_others(name: str, version: str) -> OtherApps:
    """Of a model that answers alone."""

    async def fetch(digest: str) -> Mapping[str, bytes]:
        raise BundleError(f"bundle = {digest} is not served here.")

    def build(predictor: Predictor) -> FastPath:
        raise BundleError(f"model = {predictor.name} is not served here.")

    own = ServedModels(ServedModel(name=name, version=version))
    return OtherApps(own, fetch=fetch, build=build, max_bytes=0)


class ManyModels:
    """An ASGI application that leaves to `own` what means the own model, or none that is served."""

    def __init__(self, own: ASGIApp, others: OtherApps) -> None:
        self._own = own
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._own(scope, receive, send)
            return
        # Ray Serve's proxy leaves its prefix before the path, and says how long it is.
        root = scope.get("root_path", "")
        prefix = root if scope["path"].startswith(root) else ""
        found = self._others.models.find(scope["path"][len(prefix) :])
        if found is None:
            await self._own(scope, receive, send)
            return
        served, path = found
        scope = {**scope, "path": f"{prefix}{path}"}
        if served is self._others.models.own:
            await self._own(scope, receive, send)
        else:
            await self._answer_other(served, scope, receive, send)

    async def _answer_other(self, served: ServedModel, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._others.lent(served) as app:
                await app(scope, receive, send)
        except RequestError as problem:
            await problem_response(problem, ids_of(scope))(scope, receive, send)
