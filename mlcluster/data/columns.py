"""Which column plays which role, and of which kind each feature is."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from mlcluster.data.conform import nearest_name
from mlcluster.data.findings import Finding
from mlcluster.data.images import ImagePartial, is_image_field
from mlcluster.data.schema import ColumnKind, FeatureColumn
from mlcluster.data.source import Source
from mlcluster.data.statistics import ColumnPartial
from mlcluster.errors import DataError
from mlcluster.spec import DataSpec, ImageSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnPlan:
    """A feature as the source declares it, before any row is read."""

    name: str
    kind: ColumnKind
    arrow_type: str
    image: ImageSpec | None = None
    """What is asked of a column of images."""

    def described(self, partial: ColumnPartial) -> FeatureColumn:
        """The feature, once its train rows are summed up."""
        shape = partial.shape(self.image) if isinstance(partial, ImagePartial) and self.image is not None else None
        return FeatureColumn(
            name=self.name,
            kind=self.kind,
            arrow_type=self.arrow_type,
            has_missing=partial.missing > 0,
            image=shape,
        )


def check_roles(spec: DataSpec, source: Source) -> None:
    """Every column that the spec names is there.

    Raises:
        DataError: one is not; the message names the key and the nearest column.
    """
    names = source.schema.names
    roles: list[tuple[str, str | None]] = [
        ("data.target", spec.target),
        ("data.key", spec.key),
        ("data.time", spec.time),
        ("data.split.column", spec.split.column),
        ("data.split.group", spec.split.group),
        *(("data.exclude", name) for name in spec.exclude),
        *(("data.sensitive", name) for name in spec.sensitive),
        *(("data.expect", name) for name in spec.expect),
    ]
    for key, name in roles:
        if name is None or name in names:
            continue
        nearest = nearest_name(name, names)
        shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        fix = f"did you mean {nearest}?" if nearest else f"use one of {shown}."
        raise DataError(f"{key} = {name} is no column of {source.label}; {fix}")
    _refuse_repeated_files(source)
    for name, expectation in spec.expect.items():
        found = source.schema.field(name)
        is_time = pa.types.is_temporal(found.type)
        if expectation.type is not None and expectation.type != ("time" if is_time else feature_kind(found)):
            raise DataError(
                f"data.expect.{name} = {expectation.type} is broken by {source.label}, where it has type {found.type}; "
                "look at where it comes from, or change the rule."
            )


def _refuse_repeated_files(source: Source) -> None:
    """A file that was copied in twice weighs double, and its rows stand on both sides of a split."""
    first: dict[str, str] = {}
    for file in source.files:
        if file.sha256 in first:
            raise DataError(
                f"data.source = {source.text} holds the same file twice ({first[file.sha256]} and {file.name}); "
                "remove one of them."
            )
        first[file.sha256] = file.name


def plan_features(spec: DataSpec, source: Source) -> tuple[list[ColumnPlan], list[Finding]]:
    """The features in the order of the source, and what is said about columns that are left out.

    Raises:
        DataError: a feature has a type that no model takes, or there is no feature.
    """
    features: list[ColumnPlan] = []
    findings: list[Finding] = []
    for field in source.schema:
        if field.name in spec.non_features:
            continue
        if pa.types.is_null(field.type):
            findings.append(all_missing(field.name))
            continue
        kind = feature_kind(field)
        if kind is None:
            is_time = pa.types.is_temporal(field.type)
            fix = "put it under data.time or data.exclude" if is_time else "put it under data.exclude, or convert it"
            lacks = "PNG or JPEG" if pa.types.is_binary(field.type) else "number, category or boolean"
            raise DataError(
                f"data.source = {source.label} has the column {field.name} of type {field.type}, "
                f"which is no {lacks}; {fix}."
            )
        image = spec.image if kind == "image" else None
        features.append(ColumnPlan(name=field.name, kind=kind, arrow_type=str(field.type), image=image))
    if spec.image != ImageSpec() and not any(feature.image for feature in features):
        asked = spec.image.model_dump(exclude_defaults=True)
        raise DataError(f"data.image = {asked} is about images, and no feature of {source.label} is one; drop it.")
    if not features:
        raise DataError(f"data.exclude = {list(spec.exclude)} leaves no feature of {source.label}; exclude fewer.")
    return features, findings


def comparable_columns(schema: pa.Schema, spec: DataSpec) -> tuple[str, ...]:
    """The columns that tell rows apart: all but the key, the split, and nested ones.

    Excluded columns count: without them, different people of one age and trade would pass for one row twice.
    """
    return tuple(
        field.name
        for field in schema
        if field.name not in (spec.key, spec.split.column) and not pa.types.is_nested(field.type)
    )


def all_missing(name: str) -> Finding:
    """That a column holds nothing to learn from."""
    return Finding(
        kind="all_missing", column=name, message=f"{name} is missing in every train row and is left out of the model."
    )


def feature_kind(field: pa.Field) -> ColumnKind | None:
    """The kind of feature that a column makes; None for a type that no model takes."""
    kind = field.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "category"
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    return "image" if is_image_field(field) else None


def image_columns(schema: pa.Schema, spec: DataSpec) -> tuple[str, ...]:
    """The features that are images."""
    return tuple(field.name for field in schema if is_image_field(field) and field.name not in spec.non_features)
