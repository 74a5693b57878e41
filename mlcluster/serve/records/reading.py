"""Records, read again: from files that are closed, that are being written, and lines of JSON of earlier versions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlcluster.serve.prediction_ids import parse_prediction_id
from mlcluster.serve.records.files import RecordFile, record_files
from mlcluster.serve.records.layout import INPUT, PredictionRecord, flat_table, records_of
from mlcluster.serve.records.write_ahead import read_frames


def read_records(folder: Path, *, with_inputs: bool = True) -> Iterator[PredictionRecord]:
    """Every whole record in `folder`, oldest file first; `inputs` are empty if they are not wanted."""
    for file in record_files(folder):
        if file.kind == "jsonl":
            yield from _lines(file.path)
            continue
        names = None
        if file.kind == "parquet" and not with_inputs:
            names = [name for name in pq.read_schema(file.path).names if not name.startswith(INPUT)]
        table = _table(file, names=names)
        if table is not None:
            yield from records_of(table)


def find_record(folder: Path, prediction_id: str) -> PredictionRecord | None:
    """The record of the request that the id (with or without `#row`) names, or None.

    The id bears its moment, and names of files say from when to when they have answers, so that few are opened.

    Raises:
        DataError: the text is no prediction id.
    """
    parsed = parse_prediction_id(prediction_id)
    for file in reversed(record_files(folder)):
        if not file.may_hold(parsed.milliseconds):
            continue
        if file.kind == "jsonl":
            found = next(_lines(file.path, start=f'{{"id":"{parsed.request_id}",'), None)
        else:
            table = _table(file, prediction_id=parsed.request_id)
            found = None if table is None else next(records_of(table), None)
        if found is not None:
            return found
    return None


def _table(file: RecordFile, *, names: list[str] | None = None, prediction_id: str | None = None) -> pa.Table | None:
    """The rows of a file, with its constants, of one request if its id is given; None where it is gone or empty."""
    wanted = None if prediction_id is None else pc.field("prediction_id") == prediction_id
    path = file.path
    if file.kind == "open":
        try:
            read = read_frames(path)
        except FileNotFoundError:  # it has just been closed
            path = next(iter(path.parent.glob(f"predictions-*-{file.token}.parquet")), path)
        else:
            if read is None:
                return None
            table = flat_table(pa.Table.from_batches(read[1], read[0]))
            return table if wanted is None else table.filter(wanted)
    try:
        return pq.read_table(path, columns=names, filters=wanted, partitioning=None)
    except FileNotFoundError:  # the oldest make room for the newest
        return None


def _lines(path: Path, *, start: str = "{") -> Iterator[PredictionRecord]:
    """Records of a file of JSON lines; the id is the first member, so most are told apart without parsing them."""
    try:
        file = path.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            if line.startswith(start) and line.endswith("}\n"):
                yield PredictionRecord(**json.loads(line))
