"""What is in the data: every column in one line, and what to know before learning from it.

One narrow read to place the rows, one full read block by block. Memory does not grow with the rows, but for a hash
and a label a row and the first 100,000 train rows, on which leaks and ids are looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from mlcluster.data.catalog import SourceCache, SourceRecord
from mlcluster.data.column_text import duplicate_columns, mixed_types
from mlcluster.data.columns import check_roles, feature_kind, plan_features
from mlcluster.data.defects import column_findings, row_findings
from mlcluster.data.engine import Engine, LocalEngine
from mlcluster.data.findings import Finding
from mlcluster.data.gather import gather
from mlcluster.data.hashing import hash_mask
from mlcluster.data.images import ImagePartial
from mlcluster.data.joins import JoinReport
from mlcluster.data.labels.filling import read_labelled_source
from mlcluster.data.profile_html import render_html
from mlcluster.data.profile_pass import ProfileKind, profile_kind, read_for_profile
from mlcluster.data.profile_text import render_text
from mlcluster.data.schema import FeatureColumn, ImageShape, TableSchema
from mlcluster.data.source import Source
from mlcluster.data.split import SPLITS
from mlcluster.data.statistics import CategoryPartial, ColumnPartial, NumberPartial
from mlcluster.spec import DataSpec

Role = Literal["feature", "target", "key", "time", "split", "excluded"]

_NUM_BINS = 24
_NUM_TOP_LEVELS = 8
_MAX_SUGGESTED_LEVELS = 20


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
        suggested: dict[str, Any] = {}
        for column in self.columns:
            if column.role != "feature" or column.distinct in (None, 0):
                continue
            words = []
            if column.kind == "number" and isinstance(column.minimum, float) and isinstance(column.maximum, float):
                words.append(f"{column.minimum:g}..{column.maximum:g}")
            if not column.missing_share:
                words.append("not_null")
            levels = [bar.label for bar in column.bars]
            if column.kind == "category" and column.distinct == len(levels) <= _MAX_SUGGESTED_LEVELS:
                suggested[column.name] = sorted(levels)
            elif words:
                suggested[column.name] = ", ".join(words)
        return suggested


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
    asked = spec if spec.bad_rows == "fail" and not is_lenient else spec.model_copy(update={"bad_rows": "warn"})
    if not is_lenient:
        plan_features(spec, source)
    features, findings = _features(spec, source)
    sampled = [*(feature.name for feature in features if feature.kind != "image"), spec.target]
    reading = read_for_profile(asked, source, sampled, (engine or LocalEngine()).for_rows(source.num_rows))
    rows = reading.rows
    schema = TableSchema(features=tuple(features), target=rows.target)
    labels = np.concatenate(rows.labels)
    findings += [*gathered.findings, *noted, *rows.findings, *row_findings(reading.hashes, hash_mask(source.num_rows))]
    findings += column_findings(reading.sample, schema) if reading.sample.num_rows else []
    findings += [*duplicate_columns(reading.columns), *mixed_types(reading.partials)]
    return DataProfile(
        source=spec.source,
        source_digest=source.digest,
        num_rows=len(labels),
        num_bytes=sum(file.size_bytes for file in source.files),
        task=rows.target.task,
        classes=tuple(map(str, rows.target.classes)),
        num_split_rows={split: int((labels == label).sum()) for label, split in enumerate(SPLITS)},
        columns=tuple(_column_profile(field, spec, reading.partials[field.name]) for field in source.schema),
        findings=tuple(sorted(findings, key=lambda finding: finding.severity == "info")),
        sources=gathered.records,
        joins=gathered.joins,
    )


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
        shown = _MAX_SUGGESTED_LEVELS if num_levels <= _MAX_SUGGESTED_LEVELS else _NUM_TOP_LEVELS
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
