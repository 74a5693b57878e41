"""Answers to a whole table: the bundle that is served, over blocks of rows, wherever an engine runs them.

In: a source of rows and a bundle. Out: Parquet in the order of the rows, each with its prediction. Same code as behind
the endpoint: `conform`, the transform, the ONNX graph.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlcluster.data import Engine, RowError, conform
from mlcluster.data.folders import refuse_lost, replaced_folder
from mlcluster.data.source import Block, Source, plain_table, read_block
from mlcluster.errors import DataError
from mlcluster.registry import Bundle
from mlcluster.serve.predictor import Prediction, Predictor

PREDICTION = "prediction"
"""The column of labels or values; a classification has a column `probability of CLASS` for each class besides."""
_POLL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class ScoreTask:
    """One block of rows to answer, into a file of its own under `folder`."""

    block: Block
    schema: pa.Schema
    bundle: Path
    digest: str
    kept: tuple[str, ...]
    folder: Path

    @property
    def num_rows(self) -> int:
        return self.block.num_rows


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreProgress:
    """Where the scoring of a table stands."""

    num_done: int
    num_tasks: int
    num_rows: int
    """Of the whole table."""


def score_table(
    source: Source,
    bundle: Path,
    out: Path,
    *,
    engine: Engine,
    kept: Sequence[str] | None = None,
    say: Callable[[ScoreProgress], None] = lambda _: None,
) -> int:
    """Answers every row of `source` into `out`, which is replaced in one step; how many rows there are.

    `out` is one file where its name ends in .parquet, else a folder of them. The columns `kept` (by default all) of the
    source stand before the prediction.

    Raises:
        DataError: a column or a value does not fit the model; the row is named, and `out` stays as it was.
        BundleError: the bundle is damaged.
    """
    names = source.schema.names if kept is None else list(kept)
    _refuse_columns(source, names)
    digest = Bundle.read(bundle).digest
    engine = engine.for_rows(source.num_rows)
    is_file = out.suffix == ".parquet"
    folder = out.with_name(f".{out.name}.parts") if is_file else out
    with replaced_folder(folder) as unfinished:
        tasks = [
            ScoreTask(
                block=block, schema=source.schema, bundle=bundle, digest=digest, kept=tuple(names), folder=unfinished
            )
            for block in source.blocks
        ]
        with _watched(unfinished, len(tasks), source.num_rows, say):
            paths = engine.run(score_block, tasks)
        refuse_lost(unfinished, (path.name for path in paths), folder)
        if is_file:
            _write_together([unfinished / path.name for path in paths], out)
    if is_file:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    return source.num_rows


def score_block(task: ScoreTask) -> Path:
    """Answers one block; where its answers lie."""
    predictor = _predictor(task.bundle, task.digest)
    features = [name for name in predictor.schema.feature_names if name in task.schema.names]
    wanted = list(dict.fromkeys([*task.kept, *features]))
    table = read_block(task.block, task.schema, wanted, as_dictionaries=True)
    try:
        rows = conform(table.select(features), predictor.schema)
    except RowError as error:
        place = "" if error.row is None else f" (row {task.block.first_row + error.row} of the table, from 0)"
        raise DataError(f"{task.block.path}: {error}{place}") from error
    kept = plain_table(table.select(list(task.kept)))
    answers = _columns(predictor.predict(rows), predictor)
    path = task.folder / f"part-{task.block.index:05d}.parquet"
    unfinished = path.with_suffix(".unfinished")
    pq.write_table(pa.table({**{name: kept[name] for name in kept.column_names}, **answers}), unfinished)
    unfinished.rename(path)
    return path


@lru_cache(maxsize=2)
def _predictor(bundle: Path, digest: str) -> Predictor:  # noqa: ARG001  # another bundle may come to lie there
    return Predictor(Bundle.read(bundle))


def _columns(prediction: Prediction, predictor: Predictor) -> dict[str, pa.Array]:
    if not predictor.classes:
        return {PREDICTION: pa.array(prediction.scores)}
    best = prediction.scores.argmax(axis=1)
    labels = pa.DictionaryArray.from_arrays(pa.array(best.astype(np.int32)), pa.array(list(predictor.classes)))
    columns = {PREDICTION: labels.cast(labels.type.value_type)}
    for index, label in enumerate(predictor.classes):
        columns[f"probability of {label}"] = pa.array(np.ascontiguousarray(prediction.scores[:, index]))
    return columns


def _refuse_columns(source: Source, kept: Sequence[str]) -> None:
    for name in kept:
        if name not in source.schema.names:
            raise DataError(f"--keep = {name} is no column of {source.label}; use some of {source.schema.names}.")
        if name == PREDICTION or name.startswith("probability of "):
            raise DataError(f"{source.label} has a column {name}, as the answers have; leave it out with --keep.")


def _write_together(parts: Sequence[Path], out: Path) -> None:
    """All parts as one file, a row group each."""
    unfinished = out.with_name(f".{out.name}.unfinished")
    try:
        with pq.ParquetWriter(unfinished, pq.read_schema(parts[0])) as writer:
            for part in parts:
                writer.write_table(pq.read_table(part, partitioning=None))
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _watched(folder: Path, num_tasks: int, num_rows: int, say: Callable[[ScoreProgress], None]) -> Iterator[None]:
    """Tells how many blocks are done by their files, which every engine leaves."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(_POLL_SECONDS):
            say(
                ScoreProgress(num_done=len(list(folder.glob("part-*.parquet"))), num_tasks=num_tasks, num_rows=num_rows)
            )

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
