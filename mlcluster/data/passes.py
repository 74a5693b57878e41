"""The two full reads: statistics of the train rows, then the rows of every split written down, raw and encoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlcluster.data.columns import ColumnPlan
from mlcluster.data.hashing import HashVector, row_hashes
from mlcluster.data.schema import TableSchema, TargetColumn
from mlcluster.data.source import Block, read_block
from mlcluster.data.split import SPLITS, TRAIN, SplitLabels
from mlcluster.data.statistics import ColumnPartial, category_partial, number_partial
from mlcluster.data.target import encode_target
from mlcluster.data.transform import Transform


@dataclass(frozen=True, kw_only=True)
class StatisticsTask:
    """One block, whose train rows (`labels` == 0) are to be summed up."""

    block: Block
    schema: pa.Schema
    labels: SplitLabels
    features: tuple[ColumnPlan, ...]
    target: TargetColumn


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


@dataclass(frozen=True, kw_only=True)
class WritePart:
    """What one block gave: per split its row hashes, and the quarantined rows."""

    hashes: Mapping[str, HashVector]
    quarantine: pa.Table
    files: Mapping[str, int]
    """Path within the snapshot, and size in bytes."""


def collect_statistics(task: StatisticsTask) -> dict[str, ColumnPartial]:
    """The partial of every feature over the block's train rows; empty for a block without any."""
    is_train = task.labels == TRAIN
    if not is_train.any():
        return {}
    names = [feature.name for feature in task.features]
    table = read_block(task.block, task.schema, [*names, task.target.name]).filter(pa.array(is_train))
    target = encode_target(table.column(task.target.name), task.target).astype(np.float64)
    return {
        feature.name: category_partial(table.column(feature.name), target)
        if feature.kind == "category"
        else number_partial(table.column(feature.name))
        for feature in task.features
    }


def write_block(task: WriteTask) -> WritePart:
    """Write the rows of one block, each into its split."""
    table = read_block(task.block, task.schema)
    hashes: dict[str, HashVector] = {}
    files: dict[str, int] = {}
    for label, split in enumerate(SPLITS):
        is_here = task.labels == label
        if not is_here.any():
            continue
        rows = table.filter(pa.array(is_here))
        hashes[split] = row_hashes(rows, list(task.told_apart_by))
        files |= _write_split(task, split, rows)
    bad = sorted(task.bad_rows)
    quarantine = table.take(pa.array(bad, type=pa.int64()))
    name = "reason" if "reason" not in table.column_names else "quarantine_reason"
    quarantine = quarantine.append_column(name, pa.array([task.bad_rows[row] for row in bad], type=pa.string()))
    return WritePart(hashes=hashes, quarantine=quarantine, files=files)


def _write_split(task: WriteTask, split: str, rows: pa.Table) -> dict[str, int]:
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
    return {path.relative_to(task.folder).as_posix(): path.stat().st_size for path in paths}
