"""Prepared shards as batches of tensors, for a training loop of one's own.

    shards = Shards.load(Path("ready"))
    batches = TorchBatches(shards, "train", batch_size=1024, shuffle=Shuffle(seed=1))
    for epoch in range(10):
        for features, target in batches.of_epoch(epoch):
            ...

One shard becomes one matrix as it is read, while the loop works on the ones before: a batch is then a view of it, or
one gather of its rows. Building each batch out of its columns costs more than reading them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from mlcluster.data import Shards
from mlcluster.errors import DataError

_CACHED_ROWS = 4096


class TorchBatch(NamedTuple):
    """`features` (b, d) float32, the columns of the shard in their order; `target` (b,) int64 classes or float32."""

    features: torch.Tensor
    target: torch.Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Shuffle:
    """Shards in random order, and the rows of `window` of them at a time: memory is a window's, twice."""

    seed: int
    window: int = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """This worker's share of the shards: those of `rank` among `of` workers, which together read each of them once."""

    rank: int = 0
    of: int = 1


class TorchBatches:
    """The batches of one split; without `shuffle` in the order of the source.

    Every batch but the last has `batch_size` rows. Same shards, shuffle, share and epoch: same batches.

    Raises:
        DataError: the split is unknown or a shard cannot be read.
    """

    def __init__(
        self, shards: Shards, split: str, *, batch_size: int, shuffle: Shuffle | None = None, share: Share | None = None
    ) -> None:
        if batch_size < 1:
            raise DataError(f"batch_size = {batch_size} is no number of rows; give 1 or more.")
        share = share or Share()
        if not 0 <= share.rank < share.of:
            raise DataError(f"share.rank = {share.rank} is not below share.of = {share.of}; ranks start at 0.")
        self._paths = shards.paths(split)
        self._kind = torch.float32 if shards.schema.target.task == "regression" else torch.int64
        self._batch_size, self._shuffle, self._share = batch_size, shuffle, share

    def __iter__(self) -> Iterator[TorchBatch]:
        return self.of_epoch(0)

    def of_epoch(self, epoch: int) -> Iterator[TorchBatch]:
        """All batches, in an order of the epoch's own where they are shuffled."""
        rest: TorchBatch | None = None
        for window in self._windows(epoch):
            start = 0
            if rest is not None:
                start = min(self._batch_size - len(rest.target), len(window))
                rest = _joined([rest, window.rows(0, start)])
                if len(rest.target) < self._batch_size:
                    continue
                yield rest
            num_full = (len(window) - start) // self._batch_size
            end = start + num_full * self._batch_size
            for first in range(start, end, self._batch_size):
                yield window.rows(first, first + self._batch_size)
            # Joined to none, it is a copy: a view would hold on to the whole window.
            rest = _joined([window.rows(end, len(window))]) if end < len(window) else None
        if rest is not None:
            yield rest

    def _windows(self, epoch: int) -> Iterator[_Window]:
        """The rows of some shards each, the next of which are read in the meantime."""
        order = np.arange(len(self._paths))
        if self._shuffle is not None:
            order = np.random.default_rng([self._shuffle.seed, epoch]).permutation(order)
        own = [self._paths[index] for index in order[self._share.rank :: self._share.of]]
        size = 1 if self._shuffle is None else self._shuffle.window
        runs = [own[start : start + size] for start in range(0, len(own), size)]
        with ThreadPoolExecutor(1, thread_name_prefix="shards") as pool:
            ahead = pool.submit(self._window, runs[0], epoch, 0) if runs else None
            for position in range(1, len(runs) + 1):
                assert ahead is not None
                window = ahead.result()
                ahead = pool.submit(self._window, runs[position], epoch, position) if position < len(runs) else None
                yield window

    def _window(self, paths: Sequence[Path], epoch: int, position: int) -> _Window:
        *features, target = pa.concat_tables([_table(path) for path in paths]).columns
        order = None
        if self._shuffle is not None:
            rng = np.random.default_rng([self._shuffle.seed, epoch, 1 + self._share.rank, position])
            order = torch.from_numpy(rng.permutation(len(target)))
        return _Window(_matrix(features, len(target)), torch.from_numpy(target.to_numpy().copy()).to(self._kind), order)


class _Window:
    """Rows in memory, and the order in which they are to be given; None for their own."""

    def __init__(self, features: torch.Tensor, target: torch.Tensor, order: torch.Tensor | None) -> None:
        self._features, self._target, self._order = features, target, order

    def __len__(self) -> int:
        return len(self._target)

    def rows(self, start: int, stop: int) -> TorchBatch:
        """Those that stand there in the order: a view without one, a gather with one."""
        if self._order is None:
            return TorchBatch(self._features[start:stop], self._target[start:stop])
        chosen = self._order[start:stop]
        return TorchBatch(self._features.index_select(0, chosen), self._target.index_select(0, chosen))


def _table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, use_threads=False, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"shard = {path} cannot be read ({error}); prepare the data again.") from error


def _matrix(columns: Sequence[pa.ChunkedArray], num_rows: int) -> torch.Tensor:
    """(num_rows, d), filled so many rows at a time that they stay in the cache while columns become rows."""
    matrix = np.empty((num_rows, len(columns)), np.float32)
    arrays = [column.to_numpy() for column in columns]
    for start in range(0, num_rows, _CACHED_ROWS):
        for index, array in enumerate(arrays):
            matrix[start : start + _CACHED_ROWS, index] = array[start : start + _CACHED_ROWS]
    return torch.from_numpy(matrix)


def _joined(batches: Sequence[TorchBatch]) -> TorchBatch:
    return TorchBatch(torch.cat([each.features for each in batches]), torch.cat([each.target for each in batches]))
