"""Models that are loaded when they are asked for, under a cap of memory: the one asked for longest ago makes room."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key")
Loaded = TypeVar("Loaded")


@dataclass(slots=True)
class _Place(Generic[Loaded]):
    loaded: Loaded
    num_bytes: int
    num_users: int = 0


class Shelf(Generic[Key, Loaded]):
    """What `load` gives by key, kept while it fits into `max_bytes`; for one event loop.

    What is in use is never put away, and nothing is loaded before there is room for it: who asks for what does not fit
    waits until others have been given back. One is loaded at a time, once for all who wait for it.
    """

    def __init__(
        self,
        load: Callable[[Key], Awaitable[Loaded]],
        *,
        num_bytes: Callable[[Key], int],
        max_bytes: int,
        clear_away: Callable[[], None] = lambda: None,
    ) -> None:
        """`clear_away` is called when something has been put away, to give its memory back."""
        self._load = load
        self._clear_away = clear_away
        self._num_bytes = num_bytes
        self._max_bytes = max_bytes
        self._places: OrderedDict[Key, _Place[Loaded]] = OrderedDict()
        self._loading = asyncio.Lock()
        self._given_back = asyncio.Event()

    @property
    def loaded(self) -> tuple[Key, ...]:
        """The keys of those that are loaded, the one asked for longest ago first."""
        return tuple(self._places)

    @property
    def num_bytes(self) -> int:
        """Of those that are loaded."""
        return sum(place.num_bytes for place in self._places.values())

    @asynccontextmanager
    async def lent(self, key: Key) -> AsyncIterator[Loaded]:
        """What `key` stands for, loaded first where it is not; it stays until it is given back.

        Raises what `load` raises, and keeps nothing of it.
        """
        place = self._places.get(key) or await self._loaded(key)
        self._places.move_to_end(key)
        place.num_users += 1
        try:
            yield place.loaded
        finally:
            place.num_users -= 1
            self._given_back.set()

    async def _loaded(self, key: Key) -> _Place[Loaded]:
        async with self._loading:
            if key not in self._places:
                num_bytes = self._num_bytes(key)
                await self._make_room(num_bytes)
                self._places[key] = _Place(await self._load(key), num_bytes)
            return self._places[key]

    async def _make_room(self, num_bytes: int) -> None:
        """Ends with room, or with an empty shelf where `num_bytes` is above the cap as a whole."""
        while self._places and self.num_bytes + num_bytes > self._max_bytes:
            unused = next((key for key, place in self._places.items() if not place.num_users), None)
            if unused is None:
                self._given_back.clear()
                await self._given_back.wait()
            else:
                del self._places[unused]
                self._clear_away()
