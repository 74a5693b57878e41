"""Prepared data as Parquet, for training code of one's own: one folder a split, one shard a task.

manifest.json       the source's files with their hashes, schema, split rule, counts, findings, shards with sizes
transforms.json     the fitted transform
quarantine.parquet  rows that broke an expectation, with the reason
train/ validation/ test/
    shard-00000.parquet   the encoded columns, see `ColumnarTransform`, then the target
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlcluster.data.columnar import ColumnarTransform, code_type
from mlcluster.data.engine import Engine
from mlcluster.data.first_read import FittedSource, fit_source, task_blocks
from mlcluster.data.folders import refuse_lost, replaced_folder, write_json
from mlcluster.data.manifest import content_of, make_manifest
from mlcluster.data.memory import release
from mlcluster.data.passes import quarantined, split_rows
from mlcluster.data.schema import TableSchema, TargetColumn
from mlcluster.data.source import Block, read_block
from mlcluster.data.split import SPLITS, SplitLabels
from mlcluster.data.target import encode_target
from mlcluster.data.transform import Encoding, Transform
from mlcluster.data.written import MANIFEST, TRANSFORMS, WrittenFile, reading_back, refuse_changed_size
from mlcluster.errors import DataError
from mlcluster.spec import DataSpec

# A shard has the rows of one split among so many of the source.
_SHARD_ROWS = 1 << 17


@dataclass(frozen=True, kw_only=True)
class Shards:
    """The prepared table in `folder`."""

    folder: Path
    transform: Transform
    schema: TableSchema
    num_rows: Mapping[str, int]
    manifest: Mapping[str, Any]

    def paths(self, split: str) -> list[Path]:
        """The shards of a split, in the order of the source's rows.

        Raises:
            DataError: there is no such split.
        """
        if split not in SPLITS:
            raise DataError(f"split = {split} is unknown; use one of {', '.join(SPLITS)}.")
        return sorted((self.folder / split).glob("shard-*.parquet"))

    @classmethod
    def load(cls, folder: Path) -> Shards:
        """What `prepare_shards` left in `folder`.

        Raises:
            DataError: there is nothing of the kind, or a shard is missing or cut short.
        """
        with reading_back(folder, what="shards") as (manifest, transforms):
            shards = _shards(folder, manifest, transforms)
        refuse_changed_size(folder, manifest["shards"])
        return shards


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """Consecutive blocks, whose rows make one shard a split."""

    index: int
    blocks: tuple[Block, ...]
    schema: pa.Schema
    labels: tuple[SplitLabels, ...]
    bad_rows: tuple[Mapping[int, str], ...]
    table_schema: TableSchema
    transform: Transform
    folder: Path

    @property
    def num_rows(self) -> int:
        return sum(block.num_rows for block in self.blocks)


@dataclass(frozen=True, kw_only=True)
class ShardPart:
    """What one task wrote."""

    num_rows: Mapping[str, int]
    files: Mapping[str, WrittenFile]
    """By path within the folder."""
    quarantine: pa.Table


def prepare_shards(
    spec: DataSpec, *, base: Path, folder: Path, seed: int, engine: Engine, encoding: Encoding = "mixed"
) -> Shards:
    """Read `spec`'s source twice, and leave its splits encoded in `folder`, which is replaced in one step.

    Raises:
        DataError: the data is unreadable, or is not what the spec says.
        ClusterError: the engine's machines do not share `folder`.
    """
    fitted = fit_source(spec, base=base, seed=seed, engine=engine, encodings=(encoding,))
    with replaced_folder(folder) as unfinished:
        parts = fitted.engine.run(write_shard, shard_tasks(fitted, fitted.transforms[encoding], unfinished))
        refuse_lost(unfinished, (name for part in parts for name in part.files), folder)
        quarantine = pa.concat_tables([part.quarantine for part in parts])
        pq.write_table(quarantine, unfinished / "quarantine.parquet", compression="zstd")
        manifest = _manifest(fitted, encoding, parts)
        transforms: dict[str, Any] = {encoding: fitted.transforms[encoding].to_json()}
        write_json(unfinished / MANIFEST, manifest)
        write_json(unfinished / TRANSFORMS, transforms)
    return _shards(folder, manifest, transforms)


def _shards(folder: Path, manifest: Mapping[str, Any], transforms: Mapping[str, Any]) -> Shards:
    """The record of a manifest and its one transform in JSON form."""
    (transform,) = transforms.values()
    return Shards(
        folder=folder.absolute(),
        transform=Transform.from_json(transform),
        schema=TableSchema.from_json(manifest["schema"]),
        num_rows=manifest["num_rows"],
        manifest=manifest,
    )


def shard_tasks(fitted: FittedSource, transform: Transform, folder: Path) -> list[ShardTask]:
    """One task a run of blocks."""
    return [
        ShardTask(
            index=index,
            blocks=run,
            schema=fitted.source.schema,
            labels=tuple(fitted.rows.labels[block.index] for block in run),
            bad_rows=tuple(fitted.rows.bad_rows[block.index] for block in run),
            table_schema=fitted.schema,
            transform=transform,
            folder=folder,
        )
        for index, run in enumerate(task_blocks(fitted.source, _SHARD_ROWS))
    ]


def write_shard(task: ShardTask) -> ShardPart:
    """Encode the rows of the blocks, and write them, each into its split."""
    columnar = ColumnarTransform(task.transform)
    target = task.table_schema.target
    schema = columnar.schema.append(pa.field(target.name, _target_type(target)))
    writers: dict[str, pq.ParquetWriter] = {}
    num_rows = dict.fromkeys(SPLITS, 0)
    quarantine = [quarantined(task.schema.empty_table(), {})]
    names = [*task.table_schema.feature_names, target.name]
    try:
        for block, labels, bad_rows in zip(task.blocks, task.labels, task.bad_rows, strict=True):
            table = read_block(block, task.schema, None if bad_rows else names, as_dictionaries=True)
            if bad_rows:
                quarantine.append(quarantined(table, bad_rows))
            for split, rows in split_rows(table.select(names), labels):
                if split not in writers:
                    writers[split] = _writer(task, split, schema)
                encoded = columnar.apply(rows)
                codes = pa.array(encode_target(rows.column(target.name), target)).cast(schema.field(-1).type)
                writers[split].write_table(encoded.append_column(schema.field(-1), codes))
                num_rows[split] += rows.num_rows
    finally:
        for writer in writers.values():
            writer.close()
    release()
    paths = [_path(task, split) for split in writers]
    return ShardPart(
        num_rows=num_rows,
        files={path.relative_to(task.folder).as_posix(): WrittenFile.of(path) for path in paths},
        quarantine=pa.concat_tables(quarantine),
    )


def _target_type(target: TargetColumn) -> pa.DataType:
    return pa.float64() if target.task == "regression" else code_type(len(target.classes))


def _path(task: ShardTask, split: str) -> Path:
    return task.folder / split / f"shard-{task.index:05d}.parquet"


def _writer(task: ShardTask, split: str, schema: pa.Schema) -> pq.ParquetWriter:
    """Dictionaries for codes only: floats hardly repeat, and looking for repeats costs more than it saves."""
    path = _path(task, split)
    path.parent.mkdir(parents=True, exist_ok=True)
    codes = [field.name for field in schema if pa.types.is_unsigned_integer(field.type)]
    return pq.ParquetWriter(path, schema, compression="snappy", use_dictionary=codes)


def _manifest(fitted: FittedSource, encoding: Encoding, parts: list[ShardPart]) -> dict[str, Any]:
    transform = {encoding: fitted.transforms[encoding].digest}
    return make_manifest(fitted, parts, files_key="shards", **content_of(fitted), transform=transform)
