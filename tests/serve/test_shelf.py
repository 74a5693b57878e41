"""Models under a cap of memory, for any order in which they are asked for."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcluster.serve.shelf import Shelf

SIZES = {"a": 4, "b": 3, "c": 2, "d": 1}


class Loader:
    """Loads a key as its capital, and knows how often, and what was there at most."""

    def __init__(self, max_bytes: int, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.loads: list[str] = []
        self.most_bytes = 0
        self.num_cleared = 0
        self.shelf: Shelf[str, str] = Shelf(
            self.load, num_bytes=SIZES.__getitem__, max_bytes=max_bytes, clear_away=self.clear_away
        )

    async def load(self, key: str) -> str:
        await asyncio.sleep(self.seconds)
        self.loads.append(key)
        self.most_bytes = max(self.most_bytes, self.shelf.num_bytes + SIZES[key])
        return key.upper()

    def clear_away(self) -> None:
        self.num_cleared += 1

    async def use(self, key: str, seconds: float = 0.0) -> str:
        async with self.shelf.lent(key) as loaded:
            assert key in self.shelf.loaded
            await asyncio.sleep(seconds)
            assert key in self.shelf.loaded
            return loaded


@given(st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=6), max_size=8), st.integers(4, 10))
def test_all_are_answered_and_the_cap_holds_whoever_asks_at_once(batches: list[list[str]], max_bytes: int) -> None:
    async def run() -> None:
        loader = Loader(max_bytes)
        for batch in batches:
            found = await asyncio.wait_for(asyncio.gather(*(loader.use(key, 0.0) for key in batch)), timeout=5)
            assert found == [key.upper() for key in batch]
        assert loader.most_bytes <= max_bytes
        assert loader.num_cleared == len(loader.loads) - len(loader.shelf.loaded)

    asyncio.run(run())


def test_the_one_asked_for_longest_ago_makes_room() -> None:
    async def run() -> None:
        loader = Loader(max_bytes=9)
        for key in ("a", "b", "c", "a", "d", "b"):
            await loader.use(key)
        assert loader.loads == ["a", "b", "c", "d", "b"]
        assert loader.shelf.loaded == ("a", "d", "b")

    asyncio.run(run())


def test_many_who_ask_at_once_have_it_loaded_once() -> None:
    async def run() -> None:
        loader = Loader(max_bytes=9, seconds=0.01)
        assert await asyncio.gather(*(loader.use("a") for _ in range(20))) == ["A"] * 20
        assert loader.loads == ["a"]

    asyncio.run(run())


def test_what_is_in_use_stays_and_the_other_waits_for_it() -> None:
    async def run() -> None:
        loader = Loader(max_bytes=4)
        first = asyncio.create_task(loader.use("a", 0.05))
        await asyncio.sleep(0)
        second = asyncio.create_task(loader.use("b"))
        await asyncio.sleep(0.02)
        assert loader.shelf.loaded == ("a",)
        assert await asyncio.gather(first, second) == ["A", "B"]
        assert loader.shelf.loaded == ("b",)

    asyncio.run(run())


def test_one_that_cannot_be_loaded_takes_no_place_and_is_tried_again() -> None:
    class Fails(Loader):
        async def load(self, key: str) -> str:
            if not self.loads:
                self.loads.append(key)
                raise OSError("gone")
            return await super().load(key)

    async def run() -> None:
        loader = Fails(max_bytes=9)
        with pytest.raises(OSError, match="gone"):
            await loader.use("a")
        assert loader.shelf.num_bytes == 0
        assert await loader.use("a") == "A"

    asyncio.run(run())
