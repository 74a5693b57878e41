"""The first read of the raw data: which row is which, and the statistics of the train rows.

A row's split hangs on its entity or its number, so that one read is enough. Where other rows decide it (a split by
time or by a column, a value that must be unique), the columns that decide are read once before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcluster.data.catalog import SourceCache
from mlcluster.data.chunks import ChunkMerger
from mlcluster.data.columns import ColumnPlan, all_missing, check_roles, plan_features
from mlcluster.data.engine import Engine, stream
from mlcluster.data.findings import Finding
from mlcluster.data.fit import fit_transform
from mlcluster.data.gather import gather
from mlcluster.data.labels.filling import read_labelled_source
from mlcluster.data.passes import FirstPassTask, first_pass
from mlcluster.data.row_plan import RowPlan, plan_rows
from mlcluster.data.schema import TableSchema
from mlcluster.data.screen import screen_rows
from mlcluster.data.source import Block, Source
from mlcluster.data.statistics import ColumnPartial
from mlcluster.data.survey import Survey, SurveyTask, is_local, survey_block
from mlcluster.data.transform import ENCODINGS, Encoding, Transform
from mlcluster.spec import DataSpec, Expectation

# A large source makes at least so many tasks, for workers to share.
_MIN_TASKS = 16


@dataclass(frozen=True, kw_only=True)
class FittedSource:
    """A source after its first read: what each row is for, what a row looks like, and the fitted transforms."""

    source: Source
    origin: Mapping[str, Any]
    """The sources and joins that it came from, for the manifest."""
    rows: RowPlan
    schema: TableSchema
    transforms: Mapping[str, Transform]
    findings: tuple[Finding, ...]
    engine: Engine
    """What the first read ran on, and the second is to run on."""


def fit_source(
    spec: DataSpec,
    *,
    base: Path,
    seed: int,
    engine: Engine,
    encodings: Sequence[Encoding] = ENCODINGS,
    cache: SourceCache | None = None,
) -> FittedSource:
    """Read the source of `spec` once, and fit a transform for each encoding to its train rows.

    Raises:
        DataError: the data is unreadable, or is not what the spec says.
    """
    gathered = gather(spec, base=base, cache=cache)
    source, noted = read_labelled_source(spec, gathered.source, base=base)
    engine = engine.for_rows(source.num_rows)
    check_roles(spec, source)
    features, findings = plan_features(spec, source)
    rows, partials = read_first(spec, source, features, seed=seed, engine=engine)
    if spec.screen.trimmed_loss != "off":
        screened = _screened(spec, source, rows, partials, seed=seed, engine=engine)
        if screened is not rows:
            rows, partials = read_first(spec, source, features, seed=seed, engine=engine, rows=screened)
    empty = [name for name, partial in partials.items() if partial.count == 0]
    schema = _schema(spec, source, rows, [feature for feature in features if feature.name not in empty], partials)
    return FittedSource(
        source=source,
        origin=gathered.to_manifest(),
        rows=rows,
        schema=schema,
        transforms={encoding: fit_transform(schema, partials, encoding) for encoding in encodings},
        findings=(*gathered.findings, *noted, *findings, *(all_missing(name) for name in empty), *rows.findings),
        engine=engine,
    )


def read_first(
    spec: DataSpec,
    source: Source,
    features: Sequence[ColumnPlan],
    *,
    seed: int,
    engine: Engine,
    rows: RowPlan | None = None,
) -> tuple[RowPlan, Mapping[str, ColumnPartial]]:
    """What every row is used for, and each feature's partial over the train rows; `rows` where that is known.

    Raises:
        DataError: the target cannot be learned, a rule of `data.expect` is broken under `bad_rows: fail`, or a split
            is empty.
    """
    if rows is None and not is_local(spec):
        rows = plan_rows(spec, source.schema, survey(spec, source, seed, engine), seed=seed)
    runs = task_blocks(source, engine.rows_per_task)
    tasks = [
        FirstPassTask(
            blocks=run,
            schema=source.schema,
            spec=spec,
            seed=seed,
            features=tuple(features),
            num_source_rows=source.num_rows,
            labels=None if rows is None else tuple(rows.labels[block.index] for block in run),
        )
        for run in runs
    ]
    merger = ChunkMerger(features, spec.target)
    found = Survey(source.num_rows)
    for part in stream(engine, first_pass, tasks):
        for each in part.surveys:
            found.add(each)
        for chunk in part.chunks:
            merger.add(chunk)
    return rows or plan_rows(spec, source.schema, found, seed=seed), merger.merged()


def survey(spec: DataSpec, source: Source, seed: int, engine: Engine) -> Survey:
    """What each block says about its rows."""
    found = Survey(source.num_rows)
    tasks = [SurveyTask(block=block, schema=source.schema, spec=spec, seed=seed) for block in source.blocks]
    for part in stream(engine, survey_block, tasks):
        found.add(part)
    return found


def task_blocks(source: Source, rows_per_task: int) -> list[tuple[Block, ...]]:
    """The blocks in runs of up to so many rows, which one task each reads. Nothing hangs on where the runs end."""
    limit = min(rows_per_task, -(-source.num_rows // _MIN_TASKS))
    runs: list[list[Block]] = [[]]
    for block in source.blocks:
        if runs[-1] and sum(each.num_rows for each in runs[-1]) + block.num_rows > limit:
            runs.append([])
        runs[-1].append(block)
    return [tuple(run) for run in runs]


def _screened(
    spec: DataSpec,
    source: Source,
    rows: RowPlan,
    partials: Mapping[str, ColumnPartial],
    *,
    seed: int,
    engine: Engine,
) -> RowPlan:
    """The plan after the screen, which looks at the train rows as a linear model would."""
    features, _ = plan_features(spec, source)
    schema = _schema(spec, source, rows, [each for each in features if partials[each.name].count], partials)
    return screen_rows(spec, source, rows, fit_transform(schema, partials, "dense"), seed=seed, engine=engine)


def _schema(
    spec: DataSpec,
    source: Source,
    rows: RowPlan,
    features: Sequence[ColumnPlan],
    partials: Mapping[str, ColumnPartial],
) -> TableSchema:
    names = {feature.name for feature in features}
    columns = [feature.described(partials[feature.name]) for feature in features]
    others = tuple(name for name in source.schema.names if name not in names and name != spec.target)
    return TableSchema(
        features=tuple(columns), target=rows.target, non_features=others, expect=_held_in_serving(spec, names)
    )


def _held_in_serving(spec: DataSpec, features: set[str]) -> dict[str, Expectation]:
    """The rules of a value; none under `warn`, where a row that breaks one is learned from, and answered."""
    rules = {} if spec.bad_rows == "warn" else {name: each.of_values for name, each in spec.expect.items()}
    return {name: rule for name, rule in rules.items() if rule is not None and name in features}
