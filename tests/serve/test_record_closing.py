"""Large files of records, which another process makes Parquet of while answers go on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from mlcluster.serve import PredictionLog, read_records
from mlcluster.serve.records.block import RecordBlock
from mlcluster.serve.records.files import close_abandoned, open_path
from mlcluster.serve.records.stream import Rotation
from mlcluster.serve.records.write_ahead import WriteAheadFile
from tests.serve.answers import answered, eventually, layout

_LARGE = 1_200_000
"""Bytes; a smaller file becomes Parquet where it was written."""


def closers(folder: Path) -> list[psutil.Process]:
    """The processes that close files of this folder."""
    return [child for child in psutil.Process().children() if str(folder) in child.cmdline()]


def fill(sink: PredictionLog) -> set[str]:
    """Answers to more rows than a file takes; their ids."""
    asked = [answered(64, seed=seed) for seed in range(1_000)]
    for one in asked:
        sink.write(one)
    sink.flush()
    return {one.id for one in asked}


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[PredictionLog]:
    made = PredictionLog(tmp_path, rotation=Rotation(max_bytes=_LARGE))
    yield made
    made.close()


def test_a_large_file_becomes_parquet_beside_the_answers_and_the_process_ends_with_the_log(sink, tmp_path) -> None:
    ids = fill(sink)
    (closer,) = closers(tmp_path)
    assert eventually(lambda: bool(list(tmp_path.glob("*.parquet"))), seconds=50)
    assert closer.nice() == 19
    assert {record.id for record in read_records(tmp_path)} == ids
    more = fill(sink)
    assert [one.pid for one in closers(tmp_path)] == [closer.pid]
    sink.close()
    assert closers(tmp_path) == []
    assert {path.suffix for path in tmp_path.iterdir()} == {".parquet"}
    assert {record.id for record in read_records(tmp_path)} == ids | more


def test_logs_of_one_folder_have_one_such_process(sink, tmp_path) -> None:
    other = PredictionLog(tmp_path, rotation=Rotation(max_bytes=_LARGE))
    ids = fill(sink)
    assert eventually(lambda: bool(list(tmp_path.glob("*.parquet"))), seconds=50)  # so it has the folder locked
    ids |= fill(other)
    assert len(closers(tmp_path)) == 1
    other.close()
    assert {record.id for record in read_records(tmp_path)} == ids


def test_what_a_killed_one_has_not_closed_is_closed_with_the_log(sink, tmp_path) -> None:
    ids = fill(sink)
    (closer,) = closers(tmp_path)
    closer.kill()
    closer.wait()
    sink.close()
    assert {path.suffix for path in tmp_path.iterdir()} == {".parquet"}
    assert {record.id for record in read_records(tmp_path)} == ids


def test_where_no_process_can_be_started_the_file_is_closed_here(sink, tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    ids = fill(sink)
    assert list(tmp_path.glob("*.parquet"))
    assert "no process can be started for prediction records: [Errno 2]" in caplog.text
    assert {record.id for record in read_records(tmp_path)} == ids


def test_where_many_files_are_open_already_the_next_one_is_closed_here(sink, tmp_path) -> None:
    others = [WriteAheadFile(open_path(tmp_path), layout().schema) for _ in range(9)]
    ids = fill(sink)
    assert closers(tmp_path) == []
    assert list(tmp_path.glob("*.parquet"))
    for other in others:
        other.close()
    sink.close()
    assert {record.id for record in read_records(tmp_path)} == ids


def test_open_files_of_earlier_versions_are_closed_as_others_are(tmp_path) -> None:
    block = RecordBlock(layout())
    one = answered(3)
    block.add(one)
    batch: pa.RecordBatch = block.batch()
    left = WriteAheadFile(open_path(tmp_path), layout().schema)
    left.append([batch.serialize()])
    left.close()
    assert close_abandoned(tmp_path) == 1
    (record,) = read_records(tmp_path)
    assert (record.id, record.inputs) == (one.id, one.columns)
