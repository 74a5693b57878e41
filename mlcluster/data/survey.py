"""The first, narrow read: only the columns that decide which rows there are and which split each belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlcluster.data.columns import image_columns
from mlcluster.data.expect import (
    ColumnSummary,
    Violation,
    column_violations,
    expectation_text,
    falling_rows,
    reasons_by_row,
    repeated_rows,
    summarise,
    violations,
)
from mlcluster.data.findings import Finding
from mlcluster.data.hashing import HashVector, row_number_hashes, value_hashes
from mlcluster.data.images import image_problems
from mlcluster.data.schema import TargetColumn
from mlcluster.data.source import Block, read_block
from mlcluster.data.split import (
    DROPPED,
    IN_GAP,
    QUARANTINED,
    SPLITS,
    TRAIN,
    UNLABELLED,
    SplitLabels,
    SplitRule,
    gap_of,
    split_by_column,
    split_by_hash,
    split_by_stratum,
    split_by_time,
    time_values,
)
from mlcluster.data.target import TargetPartial, infer_task, missing_mask, target_partial
from mlcluster.errors import DataError
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


@dataclass(frozen=True, kw_only=True)
class RowPlan:
    """Which rows are used, and for what: a label for each row of each block, with the rule that gave them."""

    target: TargetColumn
    rule: SplitRule
    labels: tuple[SplitLabels, ...]
    bad_rows: tuple[Mapping[int, str], ...]
    """Per block, the quarantined rows (numbers within the block) with their reasons."""
    findings: tuple[Finding, ...]

    @property
    def num_quarantined(self) -> int:
        return sum(len(rows) for rows in self.bad_rows)

    @property
    def counts(self) -> dict[str, int]:
        """Where every row of the source went: the splits, and the reasons for being in none. They add up."""
        total = sum((np.bincount(labels + 4, minlength=7) for labels in self.labels), np.zeros(7, np.int64)).tolist()
        names = {
            **dict(enumerate(SPLITS)),
            QUARANTINED: "quarantined",
            UNLABELLED: "without_target",
            IN_GAP: "in_gap",
            DROPPED: "dropped",
        }
        return {name: total[label + 4] for label, name in names.items()}

    @property
    def labels_digest(self) -> str:
        """SHA-256 (hex) of the labels of all rows in order, whatever the blocks."""
        digest = hashlib.sha256()
        for labels in self.labels:
            digest.update(labels.tobytes())
        return digest.hexdigest()


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
        _keep_weak_rows_to_train(labels, weak)
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


def _keep_weak_rows_to_train(labels: SplitLabels, rows: Sequence[int]) -> None:
    """What no person has labelled may be learned from, and nothing is judged by it."""
    places = np.array(rows, dtype=np.int64)
    labels[places[labels[places] > TRAIN]] = UNLABELLED


def plan_rows(spec: DataSpec, schema: pa.Schema, survey: Survey, *, seed: int) -> RowPlan:
    """Which rows are used, and for what. The survey's labels become the plan's.

    Raises:
        DataError: the target cannot be learned, a rule of `data.expect` is broken under `bad_rows: fail`, or a split
            is empty.
    """
    parts, labels = survey.parts, survey.labels
    total = parts[0].target
    for part in parts[1:]:
        total = total.merged(part.target)
    target = infer_task(spec.target, schema.field(spec.target).type, total, spec.task)
    starts = np.cumsum([0, *(part.num_rows for part in parts)])
    broken = all_violations(spec, parts, starts[:-1])
    bad_rows, findings = _act_on(spec, broken)
    if total.missing:
        share = total.missing / int(starts[-1])
        message = f"{spec.target} is missing in {total.missing} rows ({share:.1%}), which are left out."
        findings.append(Finding(kind="target_missing", column=spec.target, message=message, value=float(total.missing)))
    labels[list(bad_rows)] = QUARANTINED
    findings += _act_on_columns(spec, column_violations([part.summaries for part in parts], spec.expect))
    rule = _place(spec, schema, survey, seed)
    for part in parts:
        _keep_weak_rows_to_train(part.labels, part.weak)
    _refuse_empty_splits(spec, labels)
    findings += _entity_overlap(spec, parts, labels, rule)
    return RowPlan(
        target=target,
        rule=rule,
        labels=tuple(np.split(labels, starts[1:-1])),
        bad_rows=by_block(bad_rows, starts),
        findings=tuple(findings),
    )


def by_block(bad_rows: Mapping[int, str], starts: npt.NDArray[np.int64]) -> tuple[Mapping[int, str], ...]:
    """Row numbers in the source as numbers within the blocks, which start at `starts` (blocks + 1,)."""
    blocks: tuple[dict[int, str], ...] = tuple({} for _ in starts[:-1])
    rows = sorted(bad_rows)
    for row, block in zip(rows, np.searchsorted(starts, rows, side="right") - 1, strict=True):
        blocks[block][row - int(starts[block])] = bad_rows[row]
    return blocks


def _place(spec: DataSpec, schema: pa.Schema, survey: Survey, seed: int) -> SplitRule:
    """Write the split of every used row into the labels, where other rows decide it; the rule of the split."""
    parts, labels = survey.parts, survey.labels
    rule = SplitRule(
        kind="group" if spec.split.group else "key" if spec.key else "row",
        column=spec.entity,
        validation=spec.split.validation,
        test=spec.split.test,
        seed=seed,
    )
    if not len(labels) or labels.max() < TRAIN:
        raise DataError(f"data.source = {spec.source} has no usable row; look at data.expect and data.target.")
    if is_local(spec):
        return rule
    is_used = labels >= TRAIN
    if spec.split.column is not None:
        words = pa.chunked_array([chunk for part in parts if part.words is not None for chunk in part.words.chunks])
        hashes = _together(parts)[is_used]
        labels[is_used] = split_by_column(words.filter(pa.array(is_used)), hashes, spec.split, seed=seed)
        return replace(rule, kind="column", column=spec.split.column)
    if spec.time is not None:
        times = np.concatenate([part.times for part in parts if part.times is not None])[is_used]
        num_missing = int(np.isnan(times).sum())
        if num_missing:
            raise DataError(
                f"data.time = {spec.time} is missing in {num_missing} rows; fill it in, "
                f"or set data.expect.{spec.time}: not_null with data.bad_rows: quarantine."
            )
        gap = gap_of(spec.split, schema.field(spec.time).type)
        labels[is_used], validation_from, test_from = split_by_time(times, spec.split, gap)
        return replace(
            rule,
            kind="time",
            column=spec.time,
            gap=gap or None,
            validation_from=validation_from,
            test_from=test_from,
        )
    if spec.split.stratify:
        strata = np.concatenate([part.strata for part in parts if part.strata is not None])[is_used]
        labels[is_used] = split_by_stratum(strata, _together(parts)[is_used], spec.split, seed=seed)
        return replace(rule, kind="stratum", column=None, stratified_by=spec.target)
    labels[is_used] = split_by_hash(_together(parts)[is_used], spec.split, seed=seed)
    return rule


def _together(parts: Sequence[SurveyPart]) -> HashVector:
    """For each row, the hash of what must stay in one split: its entity, or without one the row itself."""
    rows = row_number_hashes(0, sum(part.num_rows for part in parts))
    if parts[0].keys is None:
        return rows
    keys = np.concatenate([part.keys for part in parts if part.keys is not None])
    is_missing = np.concatenate([part.key_missing for part in parts if part.key_missing is not None])
    return np.where(is_missing, rows, keys)


def all_violations(spec: DataSpec, parts: Sequence[SurveyPart], starts: npt.NDArray[np.int64]) -> list[Violation]:
    """One violation a rule over the whole source; rows are numbers within the source."""
    merged: dict[tuple[str, str], list[tuple[int, Violation]]] = {}
    for part, start in zip(parts, starts, strict=True):
        for violation in part.violations:
            merged.setdefault((violation.column, violation.rule), []).append((int(start), violation))
    found = [
        Violation(
            column=column,
            rule=rule,
            rows=np.concatenate([violation.rows + start for start, violation in each]),
            example=each[0][1].example,
        )
        for (column, rule), each in merged.items()
    ]
    for name, expectation in spec.expect.items():
        if expectation.unique:
            hashes = np.concatenate([part.unique[name][0] for part in parts])
            rows = repeated_rows(hashes, np.concatenate([part.unique[name][1] for part in parts]))
            if len(rows):
                found.append(Violation(column=name, rule="repeats an earlier row", rows=rows, example="not unique"))
        if expectation.increasing:
            values = np.concatenate([part.ordered[name] for part in parts])
            rows = falling_rows(values)
            if len(rows):
                example = f"{values[rows[0]]:g}"
                found.append(Violation(column=name, rule="is below the row before", rows=rows, example=example))
    return found


def _act_on(spec: DataSpec, broken: Sequence[Violation]) -> tuple[dict[int, str], list[Finding]]:
    """The rows to quarantine with their reasons, and the findings."""
    findings = []
    for violation in broken:
        rows = violation.rows
        first = ", ".join(str(row) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
        if spec.bad_rows == "fail":
            raise DataError(
                f"{_asked_text(violation.column, spec)} is broken by {len(rows)} rows ({violation.rule}; "
                f"rows {first} from 0; first value {violation.example}); "
                "fix them, or set data.bad_rows to quarantine or warn."
            )
        done = "quarantined" if spec.bad_rows == "quarantine" else "kept"
        message = f"{violation.reason} in {len(rows)} rows ({first}; first value {violation.example}); they are {done}."
        findings.append(Finding(kind="bad_rows", column=violation.column, message=message, value=float(len(rows))))
    return (reasons_by_row(broken) if spec.bad_rows == "quarantine" else {}), findings


def _asked_text(column: str, spec: DataSpec) -> str:
    if column in spec.expect:
        return f"data.expect.{column} = {expectation_text(spec.expect[column])}"
    return f"data.source = images in {column}"


def _act_on_columns(spec: DataSpec, broken: Sequence[tuple[str, str]]) -> list[Finding]:
    """Findings under `warn`; no row can be set aside for a column as a whole, so that all else fails."""
    findings = []
    for column, problem in broken:
        if spec.bad_rows != "warn":
            raise DataError(
                f"data.expect.{column} = {expectation_text(spec.expect[column])} is broken by the whole column "
                f"({problem}); look at where it comes from, or set data.bad_rows to warn."
            )
        findings.append(Finding(kind="bad_rows", column=column, message=f"{column}: {problem}; all rows are kept."))
    return findings


def _refuse_empty_splits(spec: DataSpec, labels: SplitLabels) -> None:
    present = np.unique(labels)
    for label, name in enumerate(SPLITS):
        if label not in present:
            used = int((labels >= TRAIN).sum())
            shares = f"validation {spec.split.validation:g}, test {spec.split.test:g}"
            raise DataError(
                f"data.split = {spec.split.column or shares} leaves no {name} rows of {used}; "
                "give more rows or entities, or change the shares."
            )


def _entity_overlap(spec: DataSpec, parts: Sequence[SurveyPart], labels: SplitLabels, rule: SplitRule) -> list[Finding]:
    """Entities that a split by time or by column has parted."""
    if spec.entity is None or rule.kind in ("key", "group"):
        return []
    entities = _together(parts)
    is_held_out = labels > TRAIN
    shared = np.intersect1d(entities[labels == TRAIN], entities[is_held_out])
    if not len(shared):
        return []
    message = (
        f"{len(shared)} values of {spec.entity} stand in train and in validation or test, because the split is by "
        f"{rule.column}; scores hold for known entities only."
    )
    return [Finding(kind="entity_overlap", column=spec.entity, message=message, value=float(len(shared)))]
