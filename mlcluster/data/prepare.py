"""From the `data:` section to a snapshot: a narrow survey, statistics of the train rows, then one write."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlcluster.data.catalog import SourceCache
from mlcluster.data.columns import ColumnPlan, all_missing, check_roles, comparable_columns, plan_features
from mlcluster.data.defects import column_findings, row_findings
from mlcluster.data.engine import Engine
from mlcluster.data.findings import Finding
from mlcluster.data.fit import fit_transform
from mlcluster.data.gather import gather
from mlcluster.data.passes import StatisticsTask, WritePart, WriteTask, collect_statistics, write_block
from mlcluster.data.schema import FeatureColumn, TableSchema
from mlcluster.data.snapshot import FORMAT_VERSION, DatasetSnapshot, identity_digest, snapshot_from
from mlcluster.data.source import Source
from mlcluster.data.split import SPLITS
from mlcluster.data.statistics import ColumnPartial, merge
from mlcluster.data.survey import RowPlan, SurveyTask, plan_rows, survey_block
from mlcluster.data.transform import ENCODINGS, Transform
from mlcluster.errors import ClusterError
from mlcluster.spec import DataSpec

# Enough to tell a leak or an id; findings need not read all of a large table again.
_SAMPLE_ROWS = 100_000


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    source: Source
    origin: Mapping[str, Any]
    """The sources and joins that it came from, for the manifest."""
    rows: RowPlan
    schema: TableSchema
    transforms: Mapping[str, Transform]
    findings: tuple[Finding, ...]


def prepare(
    spec: DataSpec, *, base: Path, folder: Path, seed: int, engine: Engine, cache: SourceCache | None = None
) -> DatasetSnapshot:
    """The snapshot of the data, written to `folder`, which is replaced in one step when all went well.

    Relative sources start at `base`. The digest depends on the data, the spec and the seed, not on the engine.

    Raises:
        DataError: the data is unreadable, or is not what the spec says.
        ClusterError: the engine's machines do not share `folder`.
    """
    gathered = gather(spec, base=base, cache=cache)
    source = gathered.source
    check_roles(spec, source)
    features, findings = plan_features(spec, source)
    surveys = engine.run(
        survey_block, [SurveyTask(block=block, schema=source.schema, spec=spec) for block in source.blocks]
    )
    rows = plan_rows(spec, source.schema, surveys, seed=seed)
    partials = _train_statistics(source, rows, features, engine)
    empty = [name for name, partial in partials.items() if partial.count == 0]
    schema = _schema(spec, source, rows, [feature for feature in features if feature.name not in empty], partials)
    prepared = _Prepared(
        source=source,
        origin=gathered.to_manifest(),
        rows=rows,
        schema=schema,
        transforms={encoding: fit_transform(schema, partials, encoding) for encoding in ENCODINGS},
        findings=(*gathered.findings, *findings, *(all_missing(name) for name in empty), *rows.findings),
    )
    return _written(spec, prepared, folder, engine)


def _train_statistics(
    source: Source, rows: RowPlan, features: Sequence[ColumnPlan], engine: Engine
) -> Mapping[str, ColumnPartial]:
    tasks = [
        StatisticsTask(block=block, schema=source.schema, labels=labels, features=tuple(features), target=rows.target)
        for block, labels in zip(source.blocks, rows.labels, strict=True)
    ]
    parts = [part for part in engine.run(collect_statistics, tasks) if part]
    return {feature.name: reduce(merge, (part[feature.name] for part in parts)) for feature in features}


def _schema(
    spec: DataSpec,
    source: Source,
    rows: RowPlan,
    features: Sequence[ColumnPlan],
    partials: Mapping[str, ColumnPartial],
) -> TableSchema:
    names = {feature.name for feature in features}
    columns = []
    for feature in features:
        missing = partials[feature.name].missing
        count = missing.count if not isinstance(missing, int) else missing
        columns.append(
            FeatureColumn(name=feature.name, kind=feature.kind, arrow_type=feature.arrow_type, has_missing=count > 0)
        )
    others = tuple(name for name in source.schema.names if name not in names and name != spec.target)
    return TableSchema(features=tuple(columns), target=rows.target, non_features=others)


def _written(spec: DataSpec, prepared: _Prepared, folder: Path, engine: Engine) -> DatasetSnapshot:
    """Write into a sibling folder, then put it in place of `folder`."""
    folder = folder.absolute()  # an engine's workers may stand elsewhere
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        unfinished.chmod(0o755)
        parts = _write_blocks(spec, prepared, unfinished, engine)
        quarantine = pa.concat_tables([part.quarantine for part in parts])
        pq.write_table(quarantine, unfinished / "quarantine.parquet", compression="zstd")
        manifest = _manifest(prepared, parts)
        transforms = {name: transform.to_json() for name, transform in prepared.transforms.items()}
        snapshot = snapshot_from(manifest, transforms, unfinished)
        sample = snapshot.table("train", max_rows=_SAMPLE_ROWS)
        found = [*prepared.findings, *row_findings(_hashes(parts)), *column_findings(sample, prepared.schema)]
        manifest = {**manifest, "findings": [finding.to_json() for finding in found]}
        snapshot_from(manifest, transforms, unfinished).save()
        _put_in_place(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return snapshot_from(manifest, transforms, folder)


def _write_blocks(spec: DataSpec, prepared: _Prepared, folder: Path, engine: Engine) -> list[WritePart]:
    schema = prepared.schema
    wanted = {*schema.feature_names, schema.target.name, *spec.sensitive}
    raw_columns = tuple(name for name in prepared.source.schema.names if name in wanted)
    told_apart_by = comparable_columns(prepared.source.schema, spec)
    tasks = [
        WriteTask(
            block=block,
            schema=prepared.source.schema,
            labels=labels,
            bad_rows=bad_rows,
            table_schema=schema,
            raw_columns=raw_columns,
            told_apart_by=told_apart_by,
            transforms=prepared.transforms,
            folder=folder,
        )
        for block, labels, bad_rows in zip(
            prepared.source.blocks, prepared.rows.labels, prepared.rows.bad_rows, strict=True
        )
    ]
    parts = engine.run(write_block, tasks)
    lost = next((name for part in parts for name in part.files if not (folder / name).is_file()), None)
    if lost is not None:
        raise ClusterError(
            f"folder = {folder.parent} is not shared by every node ({lost} is not there); use one that is."
        )
    return parts


def _manifest(prepared: _Prepared, parts: Sequence[WritePart]) -> dict[str, Any]:
    identity = {
        "files": [file.sha256 for file in prepared.source.files],
        "schema": prepared.schema.to_json(),
        "split": prepared.rows.rule.to_json(),
        "labels": prepared.rows.labels_digest,
        "transforms": {name: transform.digest for name, transform in prepared.transforms.items()},
        # Only where there are some: what was made before there were joins keeps its digest.
        **({"joins": [join["asked"] for join in joins]} if (joins := prepared.origin["joins"]) else {}),
    }
    hashes = _hashes(parts)
    manifest = {
        "format_version": FORMAT_VERSION,
        "name": prepared.source.name,
        "digest": identity_digest(identity),
        "source": prepared.source.text,
        **prepared.origin,
        "files": [asdict(file) for file in prepared.source.files],
        "identity": identity,
        "num_rows": {split: sum(map(len, hashes[split])) for split in SPLITS},
        "quarantined": prepared.rows.num_quarantined,
        "findings": [],
        "parts": {name: size for part in parts for name, size in part.files.items()},
    }
    # Through JSON, so that a snapshot equals the one that is loaded from its folder.
    plain: dict[str, Any] = json.loads(json.dumps(manifest))
    return plain


def _hashes(parts: Sequence[WritePart]) -> dict[str, list[Any]]:
    return {split: [part.hashes[split] for part in parts if split in part.hashes] for split in SPLITS}


def _put_in_place(unfinished: Path, folder: Path) -> None:
    if not folder.exists():
        unfinished.rename(folder)
        return
    # A folder that is not empty cannot be replaced in one call: the old one steps aside and is then removed.
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    folder.rename(aside / "snapshot")
    try:
        unfinished.rename(folder)
    except OSError:
        (aside / "snapshot").rename(folder)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
