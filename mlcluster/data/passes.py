"""The two reads of the raw data: statistics of the train rows, then the rows of every split written down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlcluster.data.chunks import ChunkBuilder, ChunkPart, Extent
from mlcluster.data.columns import ColumnPlan
from mlcluster.data.hashing import HashVector, kept_hashes, row_hashes
from mlcluster.data.memory import release
from mlcluster.data.schema import TableSchema
from mlcluster.data.source import Block, plain_table, read_block
from mlcluster.data.split import SPLITS, TRAIN, SplitLabels
from mlcluster.data.survey import SurveyPart, SurveyTask, role_columns, survey_table
from mlcluster.data.target import encode_target
from mlcluster.data.transform import Transform
from mlcluster.data.written import WrittenFile
from mlcluster.spec import DataSpec


@dataclass(frozen=True, kw_only=True)
class FirstPassTask:
    """Consecutive blocks, whose train rows are to be summed up.

    `labels` are those of a survey that went before; None where a row's split hangs on the row alone, which is then
    surveyed in the same read.
    """

    blocks: tuple[Block, ...]
    schema: pa.Schema
    spec: DataSpec
    seed: int
    features: tuple[ColumnPlan, ...]
    num_source_rows: int
    labels: tuple[SplitLabels, ...] | None

    @property
    def num_rows(self) -> int:
        return sum(block.num_rows for block in self.blocks)


@dataclass(frozen=True, kw_only=True)
class FirstPassPart:
    """What the first read of some blocks gave; `surveys` is empty where they were surveyed before."""

    surveys: tuple[SurveyPart, ...]
    chunks: tuple[ChunkPart, ...]


@dataclass(frozen=True, kw_only=True)
class WriteTask:
    """One block, whose rows are to be written under `folder`."""

    block: Block
    schema: pa.Schema
    labels: SplitLabels
    bad_rows: Mapping[int, str]
    table_schema: TableSchema
    raw_columns: tuple[str, ...]
    told_apart_by: tuple[str, ...]
    transforms: Mapping[str, Transform]
    folder: Path
    hash_mask: int
    """Row hashes that share a bit with it are left out; see `hash_mask`."""

    @property
    def num_rows(self) -> int:
        return self.block.num_rows


@dataclass(frozen=True, kw_only=True)
class WritePart:
    """What one block gave: rows and row hashes by split, and the quarantined rows."""

    num_rows: Mapping[str, int]
    hashes: Mapping[str, HashVector]
    quarantine: pa.Table
    files: Mapping[str, WrittenFile] = field(default_factory=dict)
    """By path within the snapshot."""


def first_pass(task: FirstPassTask) -> FirstPassPart:
    """Survey the blocks, where that is still to do, and sum up their train rows."""
    names = [*(feature.name for feature in task.features), task.spec.target]
    wanted = names if task.labels is not None else [*dict.fromkeys([*names, *role_columns(task.schema, task.spec)])]
    first, last = task.blocks[0], task.blocks[-1]
    extent = Extent(start=first.first_row, stop=last.first_row + last.num_rows, num_rows=task.num_source_rows)
    builder = ChunkBuilder(task.features, task.spec.target, extent)
    surveys = []
    for position, block in enumerate(task.blocks):
        table = read_block(block, task.schema, wanted, as_dictionaries=True)
        if task.labels is not None:
            labels = task.labels[position]
        else:
            survey = survey_table(table, SurveyTask(block=block, schema=task.schema, spec=task.spec, seed=task.seed))
            surveys.append(survey)
            labels = survey.labels
        builder.add(table.select(names), pa.array(labels == TRAIN), block.first_row)
    parts = tuple(builder.parts())
    release()
    return FirstPassPart(surveys=tuple(surveys), chunks=parts)


def split_rows(table: pa.Table, labels: SplitLabels) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each split that has any."""
    for label, split in enumerate(SPLITS):
        is_here = labels == label
        if is_here.any():
            yield split, table.filter(pa.array(is_here))


def write_block(task: WriteTask) -> WritePart:
    """Write the rows of one block, each into its split."""
    table = read_block(task.block, task.schema, as_dictionaries=True)
    num_rows: dict[str, int] = {}
    hashes: dict[str, HashVector] = {}
    files: dict[str, WrittenFile] = {}
    for split, rows in split_rows(table, task.labels):
        num_rows[split] = rows.num_rows
        hashes[split] = kept_hashes(row_hashes(rows, list(task.told_apart_by)), task.hash_mask)
        files |= _write_split(task, split, rows)
    return WritePart(num_rows=num_rows, hashes=hashes, files=files, quarantine=quarantined(table, task.bad_rows))


def quarantined(table: pa.Table, bad_rows: Mapping[int, str]) -> pa.Table:
    """The rows that are set aside, as they stood in the source, with a column `reason`."""
    bad = sorted(bad_rows)
    name = "reason" if "reason" not in table.column_names else "quarantine_reason"
    rows = plain_table(table.take(pa.array(bad, type=pa.int64())))
    return rows.append_column(name, pa.array([bad_rows[row] for row in bad], type=pa.string()))


def _write_split(task: WriteTask, split: str, rows: pa.Table) -> dict[str, WrittenFile]:
    folder = task.folder / split
    folder.mkdir(parents=True, exist_ok=True)
    number = f"{task.block.index:05d}"
    paths = [folder / f"part-{number}.parquet"]
    pq.write_table(rows.select(list(task.raw_columns)), paths[0], compression="zstd")
    arrays = {name: transform.apply(rows) for name, transform in task.transforms.items()}
    target = encode_target(rows.column(task.table_schema.target.name), task.table_schema.target)
    for name, array in {**arrays, "target": target}.items():
        paths.append(folder / f"{name}-{number}.npy")
        np.save(paths[-1], array, allow_pickle=False)
    return {path.relative_to(task.folder).as_posix(): WrittenFile.of(path) for path in paths}
