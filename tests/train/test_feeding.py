from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mlcluster.data import LocalEngine, Shards, prepare_shards
from mlcluster.errors import DataError
from mlcluster.spec import DataSpec
from mlcluster.train import Share, Shuffle, TorchBatches

NUM_ROWS = 3000


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """Sixteen shards a split, since a large source makes at least so many tasks."""
    base = tmp_path_factory.mktemp("feeding")
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "row": np.arange(NUM_ROWS, dtype=np.float64),
            "town": rng.choice(["north", "south", None], NUM_ROWS),
            "rich": rng.choice(["yes", "no"], NUM_ROWS),
        }
    )
    pq.write_table(table, base / "people.parquet", row_group_size=100)
    spec = DataSpec(source="people.parquet", target="rich")
    prepare_shards(spec, base=base, folder=base / "ready", seed=1, engine=LocalEngine(), encoding="mixed")
    return Shards.load(base / "ready")


def rows_of(batches: TorchBatches, epoch: int = 0) -> np.ndarray:
    return np.concatenate([np.column_stack([b.features, b.target]) for b in batches.of_epoch(epoch)])


def test_without_shuffling_the_batches_are_the_split_in_its_order(shards: Shards) -> None:
    tables = pa.concat_tables([pq.read_table(path, partitioning=None) for path in shards.paths("train")])
    expected = np.column_stack([column.to_numpy().astype(np.float64) for column in tables.columns])
    batches = list(TorchBatches(shards, "train", batch_size=64))
    assert len(shards.paths("train")) > 4
    assert {len(batch.target) for batch in batches[:-1]} == {64}
    assert batches[0].features.dtype == torch.float32
    assert batches[0].target.dtype == torch.int64
    assert rows_of(TorchBatches(shards, "train", batch_size=64)).tobytes() == expected.tobytes()


def test_same_seed_and_epoch_same_batches_and_each_row_once_in_any_case(shards: Shards) -> None:
    def fed(seed: int, epoch: int) -> np.ndarray:
        return rows_of(TorchBatches(shards, "train", batch_size=50, shuffle=Shuffle(seed=seed)), epoch)

    first = fed(1, 0)
    assert fed(1, 0).tobytes() == first.tobytes()
    for other in (fed(2, 0), fed(1, 1)):
        assert other.tobytes() != first.tobytes()
        assert np.sort(other, axis=0).tobytes() == np.sort(first, axis=0).tobytes()
    assert sorted(first[:, 0]) == sorted(rows_of(TorchBatches(shards, "train", batch_size=50))[:, 0])


def test_workers_share_the_rows_and_none_is_read_twice(shards: Shards) -> None:
    whole = rows_of(TorchBatches(shards, "train", batch_size=50))[:, 0]
    parts = [
        rows_of(TorchBatches(shards, "train", batch_size=50, shuffle=Shuffle(seed=3), share=Share(rank=rank, of=3)), 2)
        for rank in range(3)
    ]
    assert sorted(np.concatenate(parts)[:, 0]) == sorted(whole)


def test_a_batch_is_not_changed_by_those_after_it(shards: Shards) -> None:
    batches = list(TorchBatches(shards, "train", batch_size=7, shuffle=Shuffle(seed=1)))
    again = TorchBatches(shards, "train", batch_size=7, shuffle=Shuffle(seed=1))
    assert all(torch.equal(one.features, two.features) for one, two in zip(batches, again, strict=True))


def test_what_cannot_be_fed_is_refused(shards: Shards, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="split = tests is unknown; use one of train, validation, test"):
        TorchBatches(shards, "tests", batch_size=8)
    with pytest.raises(DataError, match="batch_size = 0"):
        TorchBatches(shards, "train", batch_size=0)
    with pytest.raises(DataError, match="ranks start at 0"):
        TorchBatches(shards, "train", batch_size=8, share=Share(rank=2, of=2))
    with pytest.raises(DataError, match="cannot be read"):
        Shards.load(tmp_path)


def test_a_shard_that_was_cut_short_is_named(shards: Shards, tmp_path: Path) -> None:
    copy = tmp_path / "ready"
    for file in shards.folder.rglob("*"):
        if file.is_file():
            target = copy / file.relative_to(shards.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    victim = copy / "train" / shards.paths("train")[1].name
    victim.write_bytes(victim.read_bytes()[:-10])
    with pytest.raises(DataError, match=f"{victim.name} is missing or cut short"):
        Shards.load(copy)
