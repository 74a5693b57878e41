"""The one read of a profile: block by block, every column summed up, its rows hashed, and some kept to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from mlcluster.data.columns import comparable_columns, feature_kind
from mlcluster.data.engine import Engine
from mlcluster.data.first_read import survey
from mlcluster.data.hashing import (
    HashVector,
    column_hashes,
    hash_mask,
    kept_hashes,
    row_hashes,
    row_number_hashes,
    seeded_shares,
)
from mlcluster.data.images import header_partial
from mlcluster.data.row_plan import RowPlan, plan_rows
from mlcluster.data.source import Block, Source, plain_table, read_block
from mlcluster.data.split import QUARANTINED, SPLITS, TRAIN, UNLABELLED, SplitLabels, time_values
from mlcluster.data.statistics import CategoryTally, ColumnPartial, merge_all, number_partial
from mlcluster.data.survey import Survey, SurveyPart, SurveyTask, is_local, survey_table
from mlcluster.data.target import missing_mask
from mlcluster.spec import DataSpec

ProfileKind = Literal["number", "category", "boolean", "image", "time", "other"]

SAMPLE_ROWS = 100_000
"""About so many rows, drawn by their numbers, are looked at more closely; all rows of a smaller source."""
# Not one that a split has: test rows are those with the smallest hashes of the same numbers.
_SAMPLE_SEED = 0x73616D706C65


@dataclass(frozen=True, kw_only=True)
class ProfileTask:
    """One block; `labels` are None where a row's split hangs on the row alone, which is then surveyed as well."""

    block: Block
    schema: pa.Schema
    spec: DataSpec
    labels: SplitLabels | None
    sampled: tuple[str, ...]
    """The columns of the sample."""
    hash_mask: int
    sampled_share: float

    @property
    def num_rows(self) -> int:
        return self.block.num_rows


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Rows that are looked at more closely, in their order, with their splits, (n,); about `share` of all rows."""

    table: pa.Table
    labels: SplitLabels
    share: float

    @property
    def train(self) -> pa.Table:
        """The train rows among them."""
        return self.table.filter(pa.array(self.labels == TRAIN))


@dataclass(frozen=True, kw_only=True)
class ProfilePart:
    """What one block says."""

    survey: SurveyPart | None
    partials: Mapping[str, ColumnPartial]
    hashes: Mapping[str, HashVector]
    columns: Mapping[str, int]
    """A hash of each comparable column's values in the order of the rows, 64 bits; those of all blocks add up."""
    sample: Sample


@dataclass(frozen=True, kw_only=True)
class ProfileReading:
    """What the whole source says: a partial a column over all rows, hashes by split, and a sample of the rows."""

    rows: RowPlan
    partials: Mapping[str, ColumnPartial]
    hashes: Mapping[str, Sequence[HashVector]]
    columns: Mapping[str, int]
    """A hash of each column that can be compared: equal for columns that hold the same in every row."""
    sample: Sample


def read_for_profile(
    spec: DataSpec, source: Source, sampled: Sequence[str], engine: Engine, *, is_lenient: bool = False
) -> ProfileReading:
    """All that a profile needs; see `plan_rows`.

    Raises:
        DataError: the target cannot be learned, a rule is broken under `bad_rows: fail`, or a split is empty.
    """
    rows = None
    if not is_local(spec):
        found = survey(spec, source, 0, engine)
        rows = plan_rows(spec, source.schema, found, seed=0, is_lenient=is_lenient)
    tasks = [
        ProfileTask(
            block=block,
            schema=source.schema,
            spec=spec,
            labels=None if rows is None else rows.labels[block.index],
            sampled=tuple(sampled),
            hash_mask=hash_mask(source.num_rows),
            sampled_share=min(1.0, SAMPLE_ROWS / source.num_rows),
        )
        for block in source.blocks
    ]
    parts = engine.run(profile_block, tasks)
    if rows is None:
        found = Survey(source.num_rows)
        for part in parts:
            if part.survey is not None:
                found.add(part.survey)
        rows = plan_rows(spec, source.schema, found, seed=0, is_lenient=is_lenient)
    return ProfileReading(
        rows=rows,
        partials={name: merge_all([part.partials[name] for part in parts]) for name in source.schema.names},
        hashes={split: [part.hashes[split] for part in parts] for split in SPLITS},
        columns={name: sum(part.columns[name] for part in parts) % 2**64 for name in parts[0].columns},
        sample=Sample(
            table=pa.concat_tables([part.sample.table for part in parts]),
            labels=np.concatenate([part.sample.labels for part in parts]),
            share=tasks[0].sampled_share,
        ),
    )


def profile_block(task: ProfileTask) -> ProfilePart:
    """Read one block and sum it up."""
    table = read_block(task.block, task.schema, as_dictionaries=True)
    found = None
    labels = task.labels
    if labels is None:
        found = survey_table(table, SurveyTask(block=task.block, schema=task.schema, spec=task.spec, seed=0))
        labels = found.labels
    comparable = list(comparable_columns(task.schema, task.spec))
    every = row_hashes(table, comparable)
    tally = CategoryTally(pa.chunked_array([pa.nulls(table.num_rows, pa.string())]))
    return ProfilePart(
        survey=found,
        partials={each.name: _partial(table.column(each.name), each, tally, task.spec) for each in task.schema},
        hashes={split: kept_hashes(every[labels == label], task.hash_mask) for label, split in enumerate(SPLITS)},
        columns=column_hashes(table, comparable, task.block.first_row),
        sample=_sample(table, labels, task),
    )


def _sample(table: pa.Table, labels: SplitLabels, task: ProfileTask) -> Sample:
    """By a hash of the row's number, so that the blocks have no say; rows without a target are left out."""
    shares = seeded_shares(row_number_hashes(task.block.first_row, table.num_rows), _SAMPLE_SEED)
    is_taken = (shares < task.sampled_share) & ~np.isin(labels, (UNLABELLED, QUARANTINED))
    if task.spec.time is None:
        is_taken &= labels == TRAIN
    rows = table.select(list(task.sampled)).filter(pa.array(is_taken))
    return Sample(table=plain_table(rows), labels=labels[is_taken], share=task.sampled_share)


def profile_kind(field: pa.Field) -> ProfileKind:
    """The kind of a column for a reader, who also wants to see times and what no model takes."""
    if pa.types.is_timestamp(field.type) or pa.types.is_date(field.type):
        return "time"
    return feature_kind(field) or "other"


def _partial(column: pa.ChunkedArray, field: pa.Field, tally: CategoryTally, spec: DataSpec) -> ColumnPartial:
    kind = profile_kind(field)
    if kind == "image":
        return header_partial(column, spec.image.max_pixels)
    if kind == "category":
        return tally.partial(column)
    if kind == "time":
        return number_partial(pa.chunked_array([time_values(column, field.name)]))
    if kind == "other":
        return number_partial(pa.chunked_array([np.where(missing_mask(column), np.nan, 0.0)]))
    return number_partial(column)
