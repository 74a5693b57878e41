"""Which rows are used, and for what: every row of the source placed into a split, from what the blocks say."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from mlcluster.data.broken_rules import act_on, act_on_columns, all_violations, by_block
from mlcluster.data.expect import column_violations
from mlcluster.data.findings import Finding
from mlcluster.data.hashing import HashVector, row_number_hashes
from mlcluster.data.schema import TargetColumn
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
)
from mlcluster.data.survey import Survey, SurveyPart, is_local, keep_weak_rows_to_train
from mlcluster.data.target import infer_task
from mlcluster.errors import DataError
from mlcluster.spec import DataSpec


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


def plan_rows(spec: DataSpec, schema: pa.Schema, survey: Survey, *, seed: int, is_lenient: bool = False) -> RowPlan:
    """Which rows are used, and for what. The survey's labels become the plan's.

    With `is_lenient` a broken rule of a whole column is a finding, whatever `bad_rows` says.

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
    bad_rows, findings = act_on(spec, broken)
    if total.missing:
        share = total.missing / int(starts[-1])
        message = f"{spec.target} is missing in {total.missing} rows ({share:.1%}), which are left out."
        findings.append(Finding(kind="target_missing", column=spec.target, message=message, value=float(total.missing)))
    labels[list(bad_rows)] = QUARANTINED
    broken_columns = column_violations([part.summaries for part in parts], spec.expect)
    findings += act_on_columns(spec, broken_columns, is_lenient=is_lenient)
    rule = _place(spec, schema, survey, seed)
    for part in parts:
        keep_weak_rows_to_train(part.labels, part.weak)
    _refuse_empty_splits(spec, labels)
    findings += _entity_overlap(spec, parts, labels, rule)
    return RowPlan(
        target=target,
        rule=rule,
        labels=tuple(np.split(labels, starts[1:-1])),
        bad_rows=by_block(bad_rows, starts),
        findings=tuple(findings),
    )


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
