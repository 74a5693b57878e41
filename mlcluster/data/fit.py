"""A `Transform` from the merged statistics of the train split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlcluster.data.images import ImagePartial, ImagePixels
from mlcluster.data.schema import FeatureColumn, TableSchema, TargetColumn
from mlcluster.data.statistics import CategoryPartial, ColumnPartial, NumberPartial
from mlcluster.data.transform import (
    CodedCategory,
    ColumnEncoding,
    Encoding,
    Level,
    RawNumber,
    ScaledNumber,
    Transform,
)

_MAX_ONE_HOT_LEVELS = 32
# In the mixed encoding, a category with more levels is a column of codes, for an embedding.
_MAX_MIXED_ONE_HOT_LEVELS = 8
# A level must stand in 0.1 % of the rows to be kept, so that there are never more.
_MAX_MIXED_LEVELS = 1000
# Histogram-based trees bin into at most 255 values; "other" and "missing" take one each.
_MAX_ORDINAL_LEVELS = 253
_RARE_SHARE = 0.001
# A level's target mean counts as if this many rows of the global mean were among its rows.
_PRIOR_ROWS = 10.0


def fit_transform(schema: TableSchema, partials: Mapping[str, ColumnPartial], encoding: Encoding) -> Transform:
    """The transform of the schema's features; `partials` must come from train rows only."""
    columns: list[ColumnEncoding] = []
    for feature in schema.features:
        partial = partials[feature.name]
        if isinstance(partial, ImagePartial):
            columns.append(_image(feature, partial, encoding))
        elif isinstance(partial, CategoryPartial):
            columns.append(_category(feature.name, partial, encoding, schema.target))
        elif encoding == "ordinal":
            columns.append(RawNumber(name=feature.name))
        else:
            columns.append(_scaled(feature.name, partial, is_boolean=feature.kind == "boolean"))
    return Transform(encoding=encoding, columns=tuple(columns))


def _image(feature: FeatureColumn, partial: ImagePartial, encoding: Encoding) -> ImagePixels:
    shape = feature.image
    assert shape is not None, "a column of images has a shape"
    if encoding == "ordinal":
        center, scale = (0.0,) * shape.channels, (1.0,) * shape.channels
    else:
        center, scale = partial.moments(shape.channels)
    return ImagePixels(
        name=feature.name,
        height=shape.height,
        width=shape.width,
        channels=shape.channels,
        max_pixels=shape.max_pixels,
        center=center,
        scale=scale,
    )


def _scaled(name: str, partial: NumberPartial, *, is_boolean: bool) -> ScaledNumber:
    if not partial.count:
        return ScaledNumber(name=name, fill=0, low=0, high=0, center=0, scale=0, with_indicator=partial.missing > 0)
    low, high = partial.quantile(0.01), partial.quantile(0.99)
    if is_boolean or low == high:
        # Clipping a flag that is set in under 1 % of the rows would make it constant.
        low, high = partial.minimum, partial.maximum
    low, high = max(low, -1e300), min(high, 1e300)
    fill = min(max(partial.quantile(0.5), low), high)
    values = np.append(np.clip(partial.values, low, high), fill)
    weights = np.append(partial.weights, partial.missing) / (partial.count + partial.missing)
    # Around the fill, and in units of the range: no overflow, and exact zeros for a constant column.
    unit = max(high - low, 0.0) or 1.0
    shifted = (values - fill) / unit
    mean = float(np.sum(shifted * weights))
    variance = float(np.sum((shifted - mean) ** 2 * weights))
    scale = math.sqrt(variance) * unit if low < high else 0.0
    return ScaledNumber(
        name=name,
        fill=fill,
        low=low,
        high=high,
        center=fill + mean * unit,
        scale=scale,
        with_indicator=partial.missing > 0,
    )


@dataclass(frozen=True, slots=True)
class _LevelCount:
    """One level's rows, and the sum of their targets (1 for the positive class, or values)."""

    level: Level | None
    count: int
    target_sum: float


def _category(name: str, partial: CategoryPartial, encoding: Encoding, target: TargetColumn) -> CodedCategory:
    if encoding == "mixed":
        return _mixed_category(name, partial)
    is_dense = encoding == "dense"
    sums = partial.target_sums(target)
    frequent = _frequent(partial, _MAX_ONE_HOT_LEVELS if is_dense else _MAX_ORDINAL_LEVELS)
    kept = [
        _LevelCount(level, int(partial.counts[index]), float(sums[index]))
        for index, level in zip(frequent.tolist(), partial.levels.take(pa.array(frequent)).to_pylist(), strict=True)
    ]
    if is_dense or target.task == "multiclass":
        ordered = sorted(kept, key=lambda entry: (-entry.count, str(entry.level)))
        codes = {entry.level: code for code, entry in enumerate(ordered)}
        other_code = len(ordered)
        missing_code = other_code + (partial.missing > 0)
    else:
        is_rest = np.ones(len(partial.levels), dtype=np.bool_)
        is_rest[frequent] = False
        other = _LevelCount(None, int(partial.counts[:-1][is_rest].sum()), math.fsum(sums[:-1][is_rest]))
        missing = _LevelCount(None, partial.missing, float(sums[-1]))
        global_mean = math.fsum(sums) / max(int(partial.counts.sum()), 1)
        codes, other_code, missing_code = _by_target_mean(kept, other, missing, global_mean)
    levels = tuple(level for level in codes if level is not None)
    return CodedCategory(
        name=name,
        levels=levels,
        codes=tuple(codes[level] for level in levels),
        other_code=other_code,
        missing_code=missing_code,
        one_hot=is_dense,
    )


def _mixed_category(name: str, partial: CategoryPartial) -> CodedCategory:
    """Codes by frequency, the most frequent level in place of a missing value, which an indicator tells apart."""
    frequent = _frequent(partial, _MAX_MIXED_LEVELS)
    levels = tuple(partial.levels.take(pa.array(frequent)).to_pylist())
    return CodedCategory(
        name=name,
        levels=levels,
        codes=tuple(range(len(levels))),
        other_code=len(levels),
        missing_code=0,
        one_hot=len(levels) <= _MAX_MIXED_ONE_HOT_LEVELS,
        with_indicator=partial.missing > 0,
    )


def _frequent(partial: CategoryPartial, limit: int) -> npt.NDArray[np.int64]:
    """Indices of the most frequent levels, without the rare ones: under 0.1 % of the rows, or seen once."""
    counts = partial.counts[:-1]
    enough = max(2, math.ceil(_RARE_SHARE * int(partial.counts.sum())))
    frequent = np.flatnonzero(counts >= enough)
    names = partial.levels.take(pa.array(frequent)).to_pylist()
    order = sorted(range(len(frequent)), key=lambda i: (-counts[frequent[i]], str(names[i])))
    return frequent[order[:limit]]


def _by_target_mean(
    entries: list[_LevelCount], other: _LevelCount, missing: _LevelCount, global_mean: float
) -> tuple[dict[Level | None, int], int, int]:
    """Codes in the order of the smoothed target mean: a tree then parts levels with one threshold."""

    def mean(entry: _LevelCount) -> float:
        return (entry.target_sum + _PRIOR_ROWS * global_mean) / (entry.count + _PRIOR_ROWS)

    ranked = [(mean(entry), 0, str(entry.level), entry.level) for entry in entries]
    ranked.append((mean(other), 1, "", None))
    if missing.count:
        ranked.append((mean(missing), 2, "", None))
    ranked.sort(key=lambda item: item[:3])
    codes = {level: code for code, (_, role, _, level) in enumerate(ranked) if role == 0}
    roles = {role: code for code, (_, role, _, _) in enumerate(ranked) if role}
    return codes, roles[1], roles.get(2, roles[1])
