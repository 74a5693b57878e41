"""What the two reads promise: how often a column is decoded, and that only the rows decide the result."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from data_tables import people, write_people

from mlcluster.data import LocalEngine, prepare, profile
from mlcluster.data import chunks as chunks_module
from mlcluster.data.chunks import ChunkBuilder, Extent
from mlcluster.data.columns import ColumnPlan
from mlcluster.spec import DataSpec


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, str]]:
    """How often each column of each row group is decoded."""
    counts: Counter[tuple[int, str]] = Counter()
    real = pq.ParquetFile.read_row_group

    def counting(self: Any, row_group: int, columns: list[str], **settings: Any) -> Any:
        counts.update((row_group, name) for name in columns)
        return real(self, row_group, columns, **settings)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counting)
    return counts


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"key": "person"},
        {"expect": {"age": "10..95", "job": ["clerk", "cook", "pilot", "nurse", "poet"]}, "bad_rows": "quarantine"},
    ],
)
def test_the_raw_data_is_decoded_twice(
    tmp_path: Path, decoded: Counter[tuple[int, str]], settings: dict[str, Any]
) -> None:
    write_people(tmp_path, 600, row_group_size=90)
    exclude = [] if "key" in settings else ["person"]
    spec = DataSpec(source="people.parquet", target="rich", **{"exclude": exclude, **settings})
    prepare(spec, base=tmp_path, folder=tmp_path / "snapshot", seed=1, engine=LocalEngine())
    assert max(decoded.values()) == 2
    assert {name for _, name in decoded} == set(people(1).column_names)


def test_a_split_by_time_reads_what_decides_it_once_more(tmp_path: Path, decoded: Counter[tuple[int, str]]) -> None:
    write_people(tmp_path, 600, row_group_size=90)
    spec = DataSpec(source="people.parquet", target="rich", time="person")
    prepare(spec, base=tmp_path, folder=tmp_path / "snapshot", seed=1, engine=LocalEngine())
    assert {name for (_, name), count in decoded.items() if count > 2} == {"rich"}


def test_a_profile_reads_once(tmp_path: Path, decoded: Counter[tuple[int, str]]) -> None:
    write_people(tmp_path, 600, row_group_size=90)
    profile(DataSpec(source="people.parquet", target="rich", key="person"), base=tmp_path)
    assert set(decoded.values()) == {1}


@pytest.mark.parametrize("settings", [{"exclude": ["person"]}, {"key": "person"}, {"time": "person"}])
def test_the_result_hangs_on_the_rows_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    monkeypatch.setattr(chunks_module, "CHUNK_ROWS", 128)
    monkeypatch.setattr("mlcluster.data.statistics.GRID_POINTS", 16)
    monkeypatch.setattr("mlcluster.data.statistics._COUNTED_RANGE", 1)
    found = []
    for size, num_threads in ((1000, 1), (128, 3), (100, 2), (37, 4), (7, 1)):
        write_people(tmp_path, 1000, row_group_size=size)
        spec = DataSpec(source="people.parquet", target="rich", **settings)
        engine = LocalEngine(num_threads)
        snapshot = prepare(spec, base=tmp_path, folder=tmp_path / "snapshot", seed=1, engine=engine)
        rows = {split: snapshot.table(split).to_pylist() for split in snapshot.num_rows}
        matrices = {split: snapshot.matrices(split, "dense")[0].tobytes() for split in snapshot.num_rows}
        found.append((dict(snapshot.transforms), snapshot.manifest["identity"]["labels"], str(rows), matrices))
    assert all(each == found[0] for each in found[1:])


def test_a_chunk_that_two_tasks_share_is_handed_on_as_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks_module, "CHUNK_ROWS", 100)
    table = people(250)
    features = (ColumnPlan(name="age", kind="number", arrow_type="int64"),)
    every = table.select(["age", "rich"])
    mask = table.column("age").is_valid().combine_chunks()
    whole = ChunkBuilder(features, "rich", Extent(start=0, stop=250, num_rows=250))
    whole.add(every, mask, 0)
    assert [(part.index, part.partials is not None) for part in whole.parts()] == [(0, True), (1, True), (2, True)]
    half = ChunkBuilder(features, "rich", Extent(start=0, stop=150, num_rows=250))
    half.add(every.slice(0, 150), mask.slice(0, 150), 0)
    first, second = half.parts()
    assert first.partials is not None and second.partials is None
    assert second.rows is not None and second.rows.num_rows == sum(mask.slice(100, 50).to_pylist())
