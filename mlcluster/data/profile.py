"""What is in the data: every column in one line, and what to know before learning from it.

One narrow read to place the rows, one full read block by block. Memory does not grow with the rows, but for a hash
and a label a row and a sample of about 100,000 rows, in which leaks, ids, what tells the target and drift are looked
for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from mlcluster.data.association import Association, measure_association
from mlcluster.data.augment.coverage import covered_columns, thin_findings
from mlcluster.data.catalog import SourceCache, SourceRecord
from mlcluster.data.column_text import duplicate_columns, mixed_types
from mlcluster.data.columns import check_roles, feature_kind, plan_features
from mlcluster.data.defects import column_findings, row_findings
from mlcluster.data.drift import DriftOverTime, measure_drift
from mlcluster.data.engine import Engine, LocalEngine
from mlcluster.data.findings import Finding, most_telling_first
from mlcluster.data.gather import gather
from mlcluster.data.hashing import hash_mask
from mlcluster.data.images import ImagePartial
from mlcluster.data.joins import JoinReport
from mlcluster.data.labels.filling import read_labelled_source
from mlcluster.data.profile_html import render_html
from mlcluster.data.profile_pass import ProfileKind, ProfileReading, profile_kind, read_for_profile
from mlcluster.data.profile_text import render_text
from mlcluster.data.schema import FeatureColumn, ImageShape, TableSchema
from mlcluster.data.source import Source
from mlcluster.data.split import SPLITS
from mlcluster.data.statistics import CategoryPartial, ColumnPartial, NumberPartial
from mlcluster.data.suggest import MAX_SUGGESTED_LEVELS, suggest_expect
from mlcluster.spec import DataSpec

Role = Literal["feature", "target", "key", "time", "split", "excluded"]

_NUM_BINS = 24
_NUM_TOP_LEVELS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One bar of a histogram or of the most frequent levels."""

    label: str
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnProfile:
    """One column over all rows. The numbers are None for a column that is no number or time; times are ISO text."""

    name: str
    role: Role
    kind: ProfileKind
    arrow_type: str
    missing_share: float
    distinct: int | None
    is_distinct_exact: bool
    minimum: float | str | None = None
    median: float | str | None = None
    maximum: float | str | None = None
    mean: float | None = None
    deviation: float | None = None
    association: float | None = None
    """How much of the target a feature tells by itself, 0 to 1; see `DataProfile.association`."""
    bars: tuple[Bar, ...] = ()
    """A histogram from left to right, the most frequent levels, or the most frequent sizes of images."""
    image: ImageShape | None = None
    """What images are brought to."""


@dataclass(frozen=True, kw_only=True)
class DataProfile:
    """The whole table, ready to be read, printed or shown."""

    source: str
    source_digest: str
    """SHA-256 (hex) over the names and contents of the source's files."""
    num_rows: int
    num_bytes: int
    task: str
    classes: tuple[str, ...]
    num_split_rows: dict[str, int]
    columns: tuple[ColumnProfile, ...]
    findings: tuple[Finding, ...]
    association: Association | None = None
    """What each feature tells of the target; None where too few train rows say so."""
    drift: DriftOverTime | None = None
    """Features and target over slices of `data.time`; None without it, or where rows or moments are too few."""
    sources: tuple[SourceRecord, ...] = ()
    """Each source that was used, that of `data.source` first."""
    joins: tuple[JoinReport, ...] = ()

    @property
    def stale_sources(self) -> tuple[Finding, ...]:
        """Those of the findings that say that a source is older than it may be."""
        return tuple(finding for finding in self.findings if finding.kind == "stale_source")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, with a suggested `expect` block."""
        joins = [report.to_json() for report in self.joins]
        return {**asdict(self), "joins": joins, "suggested_expect": self.suggested_expect()}

    def summary(self) -> str:
        """A table for a terminal, and the findings."""
        return render_text(self.to_json())

    def to_html(self) -> str:
        """One page that needs no other file."""
        return render_html(self.to_json())

    def suggested_expect(self) -> dict[str, Any]:
        """What holds for every row of today, in the form that `data.expect` takes; a start to be edited."""
        return suggest_expect(self.columns)


def profile(
    spec: DataSpec,
    *,
    base: Path,
    is_lenient: bool = True,
    engine: Engine | None = None,
    cache: SourceCache | None = None,
) -> DataProfile:
    """The profile of the data that `spec` names; with `is_lenient` a finding takes the place of an error.

    Raises:
        DataError: the data cannot be read, a column is absent, or the target cannot be learned; and, unless lenient, a
            column is of no use, or an expectation is broken under `bad_rows: fail`.
    """
    gathered = gather(spec, base=base, cache=cache, is_lenient=is_lenient)
    source, noted = read_labelled_source(spec, gathered.source, base=base)
    check_roles(spec, source)
    asked = spec.model_copy(update={"bad_rows": "warn"}) if spec.bad_rows == "fail" and is_lenient else spec
    if not is_lenient:
        plan_features(spec, source)
    features, findings = _features(spec, source)
    # Images are not compared by their bytes: what one tells by itself, or how it drifts, is not said.
    plain = [feature for feature in features if feature.kind != "image"]
    sampled = [*(feature.name for feature in plain), spec.target]
    covered = covered_columns(spec, source.schema.names)
    extra = dict.fromkeys(name for name in (spec.time, *covered) if name is not None and name not in sampled)
    reading = read_for_profile(
        asked,
        source,
        [*sampled, *extra],
        (engine or LocalEngine()).for_rows(source.num_rows),
        is_lenient=is_lenient,
    )
    rows = reading.rows
    labels = np.concatenate(rows.labels)
    drift = measure_drift(reading.sample.table, spec.time, sampled) if spec.time else None
    findings += [*gathered.findings, *noted, *row_findings(reading.hashes, hash_mask(source.num_rows))]
    schema = TableSchema(features=tuple(features), target=rows.target)
    findings += _read_findings(reading, schema, drift, known=findings)
    findings += thin_findings(reading.sample.train, covered, spec.augment.coverage, share=reading.sample.share)
    association = measure_association(reading.sample.train, plain, rows.target)
    told = association.values if association is not None else {}
    return DataProfile(
        source=spec.source,
        source_digest=source.digest,
        num_rows=len(labels),
        num_bytes=sum(file.size_bytes for file in source.files),
        task=rows.target.task,
        classes=tuple(map(str, rows.target.classes)),
        num_split_rows={split: int((labels == label).sum()) for label, split in enumerate(SPLITS)},
        columns=tuple(
            replace(_column_profile(field, spec, reading.partials[field.name]), association=told.get(field.name))
            for field in source.schema
        ),
        findings=most_telling_first(findings, told),
        association=association,
        drift=drift,
        sources=gathered.records,
        joins=gathered.joins,
    )


def _read_findings(
    reading: ProfileReading, schema: TableSchema, drift: DriftOverTime | None, *, known: Sequence[Finding]
) -> list[Finding]:
    """What the rows and the columns say of themselves once they are read, beside what is `known`."""
    train = reading.sample.train
    found = [*reading.rows.findings, *(column_findings(train, schema) if train.num_rows else [])]
    if drift is not None:  # of what counts up with the rows, that is said already
        found += drift.findings(frozenset(each.column or "" for each in (*known, *found) if each.kind == "id_like"))
    return [*found, *duplicate_columns(reading.columns), *mixed_types(reading.partials)]


def _features(spec: DataSpec, source: Source) -> tuple[list[FeatureColumn], list[Finding]]:
    features, findings = [], []
    for field in source.schema:
        if field.name in spec.non_features:
            continue
        kind = feature_kind(field)
        if kind is None:
            problem = (
                "holds nothing" if pa.types.is_null(field.type) else f"has type {field.type}, which no model takes"
            )
            message = f"{field.name} {problem}; put it under data.exclude, or under data.time if it is the event time."
            findings.append(Finding(kind="unsupported", column=field.name, message=message))
        else:
            features.append(FeatureColumn(name=field.name, kind=kind, arrow_type=str(field.type), has_missing=False))
    return features, findings


def _role(name: str, spec: DataSpec) -> Role:
    roles: Sequence[tuple[Role, str | None]] = (
        ("target", spec.target),
        ("key", spec.key),
        ("time", spec.time),
        ("split", spec.split.column),
    )
    for role, column in roles:
        if name == column:
            return role
    return "excluded" if name in spec.exclude else "feature"


def _column_profile(field: pa.Field, spec: DataSpec, partial: ColumnPartial) -> ColumnProfile:
    kind = profile_kind(field)
    role = _role(field.name, spec)
    if isinstance(partial, ImagePartial):
        return _image_profile(field, role, partial, spec)
    if isinstance(partial, CategoryPartial):
        total = partial.count + partial.missing
        num_levels = len(partial.levels)
        shown = MAX_SUGGESTED_LEVELS if num_levels <= MAX_SUGGESTED_LEVELS else _NUM_TOP_LEVELS
        return ColumnProfile(
            name=field.name,
            role=role,
            kind=kind,
            arrow_type=str(field.type),
            missing_share=partial.missing / max(total, 1),
            distinct=num_levels,
            is_distinct_exact=True,
            bars=tuple(Bar(label=level, count=count) for level, count in partial.most_frequent(shown)),
        )
    missing_share = partial.missing / max(partial.count + partial.missing, 1)
    has_values = kind != "other" and partial.count > 0
    low, middle, high = (
        _shown(value, kind) if has_values else None
        for value in (partial.minimum, partial.quantile(0.5), partial.maximum)
    )
    deviation = (partial.squared_deviations / max(partial.count, 1)) ** 0.5
    return ColumnProfile(
        name=field.name,
        role=role,
        kind=kind,
        arrow_type=str(field.type),
        missing_share=missing_share,
        distinct=None if kind == "other" else len(partial.values),
        is_distinct_exact=partial.is_exact,
        minimum=low,
        median=middle,
        maximum=high,
        mean=_finite(partial.mean) if has_values and kind != "time" else None,
        deviation=_finite(deviation) if has_values and kind != "time" else None,
        bars=_histogram(partial, kind) if has_values else (),
    )


def _image_profile(field: pa.Field, role: Role, partial: ImagePartial, spec: DataSpec) -> ColumnProfile:
    by_count = sorted(partial.sizes.items(), key=lambda item: (-item[1], item[0]))
    return ColumnProfile(
        name=field.name,
        role=role,
        kind="image",
        arrow_type=str(field.type),
        missing_share=partial.missing / max(partial.count + partial.missing, 1),
        distinct=None,
        is_distinct_exact=False,
        bars=tuple(
            Bar(label=f"{height} x {width} {'grey' if channels == 1 else 'RGB'}", count=count)
            for (height, width, channels), count in by_count[:_NUM_TOP_LEVELS]
        ),
        image=partial.shape(spec.image) if partial.count else None,
    )


def _histogram(partial: NumberPartial, kind: ProfileKind) -> tuple[Bar, ...]:
    """Bars of equal width from the 0.5 % to the 99.5 % quantile, or one a value when there are few."""
    if partial.is_exact and len(partial.values) <= _NUM_BINS:
        values = zip(partial.values.tolist(), partial.weights.tolist(), strict=True)
        return tuple(Bar(label=str(_label(value, kind)), count=int(weight)) for value, weight in values)
    low, high = partial.quantile(0.005), partial.quantile(0.995)
    if not np.isfinite(high - low) or low == high:
        low, high = max(partial.minimum, -1e300), min(partial.maximum, 1e300)
    clipped = np.clip(partial.values, low, high)
    counts, edges = np.histogram(clipped, bins=_NUM_BINS, range=(low, high), weights=partial.weights)
    return tuple(
        Bar(label=f"{_label(start, kind)} – {_label(stop, kind)}", count=round(count))  # noqa: RUF001  # a range
        for start, stop, count in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
    )


def _label(value: float, kind: ProfileKind) -> str:
    if kind == "boolean":
        return "true" if value else "false"
    shown = _shown(value, kind)
    return f"{shown:.4g}" if isinstance(shown, float) else str(shown)


def _shown(value: float, kind: ProfileKind) -> float | str | None:
    if kind == "time":
        text = str(np.datetime64(int(value), "us")).replace("T", " ")
        return text.split(".", maxsplit=1)[0]
    return _finite(value)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
