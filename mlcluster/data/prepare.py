"""From the `data:` section to a snapshot: one read to know the rows and to fit, one to write them down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlcluster.data.catalog import SourceCache
from mlcluster.data.columns import comparable_columns
from mlcluster.data.defects import column_findings, row_findings
from mlcluster.data.engine import Engine
from mlcluster.data.first_read import FittedSource, fit_source
from mlcluster.data.folders import refuse_lost, replaced_folder
from mlcluster.data.hashing import hash_mask
from mlcluster.data.manifest import content_of, make_manifest
from mlcluster.data.passes import WritePart, WriteTask, write_block
from mlcluster.data.snapshot import DatasetSnapshot, identity_digest, snapshot_from
from mlcluster.data.split import SPLITS
from mlcluster.spec import DataSpec

# Enough to tell a leak or an id; findings need not read all of a large table again.
_SAMPLE_ROWS = 100_000


def prepare(
    spec: DataSpec, *, base: Path, folder: Path, seed: int, engine: Engine, cache: SourceCache | None = None
) -> DatasetSnapshot:
    """The snapshot of the data, written to `folder`, which is replaced in one step when all went well.

    Relative sources start at `base`. The digest depends on the data, the spec and the seed, not on the engine.

    Raises:
        DataError: the data is unreadable, or is not what the spec says.
        ClusterError: the engine's machines do not share `folder`.
    """
    fitted = fit_source(spec, base=base, seed=seed, engine=engine, cache=cache)
    with replaced_folder(folder) as unfinished:
        manifest, transforms = _write(spec, fitted, unfinished)
    return snapshot_from(manifest, transforms, folder.absolute())


def _write(spec: DataSpec, fitted: FittedSource, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Everything that makes a snapshot into `folder`; its manifest and its transforms."""
    parts = _write_blocks(spec, fitted, folder)
    quarantine = pa.concat_tables([part.quarantine for part in parts])
    pq.write_table(quarantine, folder / "quarantine.parquet", compression="zstd")
    manifest = _manifest(fitted, parts)
    transforms = {name: transform.to_json() for name, transform in fitted.transforms.items()}
    # Images tell neither a leak nor an id, and so many may be gigabytes.
    wanted = [*(each.name for each in fitted.schema.features if each.kind != "image"), fitted.schema.target.name]
    sample = snapshot_from(manifest, transforms, folder).table("train", max_rows=_SAMPLE_ROWS, columns=wanted)
    mask = hash_mask(fitted.source.num_rows)
    found = [*fitted.findings, *row_findings(_hashes(parts), mask), *column_findings(sample, fitted.schema)]
    manifest = {**manifest, "findings": [finding.to_json() for finding in found]}
    snapshot_from(manifest, transforms, folder).save()
    return manifest, transforms


def _write_blocks(spec: DataSpec, fitted: FittedSource, folder: Path) -> list[WritePart]:
    schema = fitted.schema
    wanted = {*schema.feature_names, schema.target.name, *spec.sensitive}
    raw_columns = tuple(name for name in fitted.source.schema.names if name in wanted)
    told_apart_by = comparable_columns(fitted.source.schema, spec)
    tasks = [
        WriteTask(
            block=block,
            schema=fitted.source.schema,
            labels=labels,
            bad_rows=bad_rows,
            table_schema=schema,
            raw_columns=raw_columns,
            told_apart_by=told_apart_by,
            transforms=fitted.transforms,
            folder=folder,
            hash_mask=hash_mask(fitted.source.num_rows),
        )
        for block, labels, bad_rows in zip(fitted.source.blocks, fitted.rows.labels, fitted.rows.bad_rows, strict=True)
    ]
    parts = fitted.engine.run(write_block, tasks)
    refuse_lost(folder, (name for part in parts for name in part.files), folder)
    return parts


def _manifest(fitted: FittedSource, parts: Sequence[WritePart]) -> dict[str, Any]:
    identity = {
        "files": [file.sha256 for file in fitted.source.files],
        **content_of(fitted),
        "transforms": {name: transform.digest for name, transform in fitted.transforms.items()},
        # Only where there are some: what was made before there were joins keeps its digest.
        **({"joins": [join["asked"] for join in joins]} if (joins := fitted.origin["joins"]) else {}),
    }
    digest = identity_digest(identity)
    return make_manifest(
        fitted, parts, files_key="parts", name=fitted.source.name, digest=digest, identity=identity, findings=[]
    )


def _hashes(parts: Sequence[WritePart]) -> dict[str, list[Any]]:
    return {split: [part.hashes[split] for part in parts if split in part.hashes] for split in SPLITS}
