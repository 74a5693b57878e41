"""The first read of the raw data: which row is which, and the statistics of the train rows.

A row's split hangs on its entity or its number, so that one read is enough. Where other rows decide it (a split by
time or by a column, a value that must be unique), the columns that decide are read once before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlcluster.data.chunks import CHUNK_ROWS, merge_chunks
from mlcluster.data.columns import ColumnPlan
from mlcluster.data.engine import Engine
from mlcluster.data.passes import FirstPassTask, first_pass
from mlcluster.data.source import Block, Source
from mlcluster.data.statistics import ColumnPartial
from mlcluster.data.survey import RowPlan, SurveyPart, SurveyTask, is_local, plan_rows, survey_block
from mlcluster.spec import DataSpec

# A task reads up to so many rows, and a large source makes at least so many tasks, for workers to share.
_MAX_TASK_ROWS = 4 * CHUNK_ROWS
_MIN_TASKS = 16


def read_first(
    spec: DataSpec, source: Source, features: Sequence[ColumnPlan], *, seed: int, engine: Engine
) -> tuple[RowPlan, Mapping[str, ColumnPartial]]:
    """What every row is used for, and each feature's partial over the train rows.

    Raises:
        DataError: the target cannot be learned, a rule of `data.expect` is broken under `bad_rows: fail`, or a split
            is empty.
    """
    rows = None if is_local(spec) else plan_rows(spec, source.schema, survey(spec, source, seed, engine), seed=seed)
    runs = task_blocks(source)
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
    parts = engine.run(first_pass, tasks)
    if rows is None:
        rows = plan_rows(spec, source.schema, [survey for part in parts for survey in part.surveys], seed=seed)
    return rows, merge_chunks((chunk for part in parts for chunk in part.chunks), features, spec.target)


def survey(spec: DataSpec, source: Source, seed: int, engine: Engine) -> list[SurveyPart]:
    """What each block says about its rows."""
    tasks = [SurveyTask(block=block, schema=source.schema, spec=spec, seed=seed) for block in source.blocks]
    return engine.run(survey_block, tasks)


def task_blocks(source: Source) -> list[tuple[Block, ...]]:
    """The blocks in runs that one task each reads. Nothing hangs on where the runs end."""
    limit = min(_MAX_TASK_ROWS, -(-source.num_rows // _MIN_TASKS))
    runs: list[list[Block]] = [[]]
    for block in source.blocks:
        if runs[-1] and sum(each.num_rows for each in runs[-1]) + block.num_rows > limit:
            runs.append([])
        runs[-1].append(block)
    return [tuple(run) for run in runs]
