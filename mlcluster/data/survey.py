"""What each block says about its rows: of the columns alone that decide which rows there are, and each one's split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlcluster.data.columns import image_columns
from mlcluster.data.expect import (
    ColumnSummary,
    Violation,
    summarise,
    violations,
)
from mlcluster.data.hashing import HashVector, row_number_hashes, value_hashes
from mlcluster.data.images import image_problems
from mlcluster.data.source import Block, read_block
from mlcluster.data.split import (
    QUARANTINED,
    TRAIN,
    UNLABELLED,
    SplitLabels,
    split_by_hash,
    time_values,
)
from mlcluster.data.target import TargetPartial, missing_mask, target_partial
from mlcluster.spec import DataSpec

RowMask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class SurveyTask:
    """One block to survey."""

    block: Block
    schema: pa.Schema
    spec: DataSpec
    seed: int

    @property
    def num_rows(self) -> int:
        return self.block.num_rows


@dataclass(frozen=True, kw_only=True)
class SurveyPart:
    """What one block of n rows says. Row numbers in `violations` count within the block."""

    num_rows: int
    target: TargetPartial
    labels: SplitLabels
    """(n,): the split, where it hangs on the row alone, else 0; below 0 for rows that are not used. Once the
    parts are in a `Survey`, its labels take their place."""
    violations: list[Violation]
    keys: HashVector | None = None
    key_missing: RowMask | None = None
    times: npt.NDArray[np.float64] | None = None
    words: pa.ChunkedArray | None = None
    strata: HashVector | None = None
    unique: Mapping[str, tuple[HashVector, RowMask]] = field(default_factory=dict)
    ordered: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    """Of columns that must increase."""
    summaries: Mapping[str, ColumnSummary] = field(default_factory=dict)
    weak: tuple[int, ...] = ()
    """Rows whose target is a label that no person gave."""


class Survey:
    """The parts of all blocks, in order. All labels lie in one array from the start: many small ones that outlive
    the large ones around them would keep the allocator from giving anything back."""

    def __init__(self, num_rows: int) -> None:
        self.labels: SplitLabels = np.empty(num_rows, dtype=np.int8)
        self.parts: list[SurveyPart] = []
        self._num_rows = 0

    def add(self, part: SurveyPart) -> None:
        """The part of the next block."""
        stop = self._num_rows + part.num_rows
        self.labels[self._num_rows : stop] = part.labels
        self.parts.append(replace(part, labels=self.labels[self._num_rows : stop]))
        self._num_rows = stop


def is_local(spec: DataSpec) -> bool:
    """Whether a row's split hangs on the row and its entity alone: no other row need be known."""
    looks_around = spec.time is not None or spec.split.column is not None or spec.split.stratify
    return not looks_around and not any(each.looks_at_rows_together for each in spec.expect.values())


def role_columns(schema: pa.Schema, spec: DataSpec) -> list[str]:
    """The columns that a survey looks at."""
    roles = {spec.target, spec.entity, spec.time, spec.split.column, *spec.expect, *image_columns(schema, spec)}
    return [name for name in schema.names if name in roles]


def survey_block(task: SurveyTask) -> SurveyPart:
    """Read the role columns of one block."""
    table = read_block(task.block, task.schema, role_columns(task.schema, task.spec))
    return survey_table(table, task)


def survey_table(table: pa.Table, task: SurveyTask) -> SurveyPart:
    """What the rows of a block say that hold at least its role columns."""
    spec = task.spec
    target = table.column(spec.target)
    found = [*violations(table, spec.expect), *_unreadable_images(table, task)]
    labels = np.zeros(table.num_rows, dtype=np.int8)
    keys = value_hashes(table.column(spec.entity)) if spec.entity else None
    key_missing = missing_mask(table.column(spec.entity)) if spec.entity else None
    if is_local(spec):
        rows = row_number_hashes(task.block.first_row, table.num_rows)
        hashes = rows if keys is None or key_missing is None else np.where(key_missing, rows, keys)
        labels = split_by_hash(hashes, spec.split, seed=task.seed)
        keys = key_missing = None
    labels[missing_mask(target)] = UNLABELLED
    weak = list(task.block.filled.weak_rows) if task.block.filled is not None else []
    if is_local(spec):
        keep_weak_rows_to_train(labels, weak)
    if spec.bad_rows == "quarantine":
        for violation in found:
            labels[violation.rows] = QUARANTINED
    by_column = spec.split.column is not None
    unique = [name for name, expectation in spec.expect.items() if expectation.unique]
    return SurveyPart(
        num_rows=table.num_rows,
        target=target_partial(target),
        labels=labels,
        violations=found,
        keys=keys,
        key_missing=key_missing,
        times=time_values(table.column(spec.time), spec.time) if spec.time and not by_column else None,
        words=table.column(spec.split.column) if by_column else None,
        strata=value_hashes(target) if spec.split.stratify else None,
        unique={name: (value_hashes(table.column(name)), missing_mask(table.column(name))) for name in unique},
        ordered={name: time_values(table.column(name), name) for name, each in spec.expect.items() if each.increasing},
        summaries=summarise(table, spec.expect),
        weak=tuple(weak),
    )


def _unreadable_images(table: pa.Table, task: SurveyTask) -> list[Violation]:
    """One for each column of images and each thing that is wrong with some of them."""
    found = []
    for name in image_columns(task.schema, task.spec):
        problems = image_problems(table.column(name).to_pylist(), task.spec.image.max_pixels)
        for rule in sorted(set(problems.values())):
            rows = np.array([row for row, problem in problems.items() if problem == rule], dtype=np.int64)
            size = len(table.column(name)[int(rows[0])].as_py())
            found.append(Violation(column=name, rule=rule, rows=rows, example=f"{size} bytes"))
    return found


def keep_weak_rows_to_train(labels: SplitLabels, rows: Sequence[int]) -> None:
    """What no person has labelled may be learned from, and nothing is judged by it."""
    places = np.array(rows, dtype=np.int64)
    labels[places[labels[places] > TRAIN]] = UNLABELLED
