"""A `Transform` from the merged statistics of the train split."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from mlcluster.data.schema import TableSchema, TaskKind
from mlcluster.data.statistics import CategoryPartial, ColumnPartial, LevelPartial, NumberPartial
from mlcluster.data.transform import CodedCategory, ColumnEncoding, Encoding, Level, RawNumber, ScaledNumber, Transform

_MAX_ONE_HOT_LEVELS = 32
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
        if isinstance(partial, CategoryPartial):
            columns.append(_category(feature.name, partial, encoding, schema.target.task))
        elif encoding == "ordinal":
            columns.append(RawNumber(name=feature.name))
        else:
            columns.append(_scaled(feature.name, partial, is_boolean=feature.kind == "boolean"))
    return Transform(encoding=encoding, columns=tuple(columns))


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


def _category(name: str, partial: CategoryPartial, encoding: Encoding, task: TaskKind) -> CodedCategory:
    is_dense = encoding == "dense"
    num_rows = partial.count + partial.missing.count
    kept = _kept_levels(partial, num_rows, _MAX_ONE_HOT_LEVELS if is_dense else _MAX_ORDINAL_LEVELS)
    rest = [value for level, value in partial.levels.items() if level not in kept]
    other = LevelPartial(count=sum(v.count for v in rest), target_sum=math.fsum(v.target_sum for v in rest))
    entries: list[tuple[Level | None, LevelPartial]] = [(level, partial.levels[level]) for level in kept]
    if is_dense or task == "multiclass":
        entries.sort(key=lambda entry: (-entry[1].count, str(entry[0])))
        ordered: list[Level | None] = [level for level, _ in entries]
        codes = {level: code for code, level in enumerate(ordered)}
        other_code = len(ordered)
        missing_code = other_code + (partial.missing.count > 0)
    else:
        total = math.fsum(v.target_sum for v in partial.levels.values()) + partial.missing.target_sum
        codes, other_code, missing_code = _by_target_mean(entries, other, partial.missing, total / max(num_rows, 1))
    levels = tuple(level for level in codes if level is not None)
    return CodedCategory(
        name=name,
        levels=levels,
        codes=tuple(codes[level] for level in levels),
        other_code=other_code,
        missing_code=missing_code,
        one_hot=is_dense,
    )


def _kept_levels(partial: CategoryPartial, num_rows: int, limit: int) -> list[Level]:
    """The most frequent levels, without the rare ones: under 0.1 % of the rows, or seen once."""
    enough = max(2, math.ceil(_RARE_SHARE * num_rows))
    frequent = [level for level, value in partial.levels.items() if value.count >= enough]
    return sorted(frequent, key=lambda level: (-partial.levels[level].count, str(level)))[:limit]


def _by_target_mean(
    entries: list[tuple[Level | None, LevelPartial]], other: LevelPartial, missing: LevelPartial, global_mean: float
) -> tuple[dict[Level | None, int], int, int]:
    """Codes in the order of the smoothed target mean: a tree then parts levels with one threshold."""

    def mean(partial: LevelPartial) -> float:
        return (partial.target_sum + _PRIOR_ROWS * global_mean) / (partial.count + _PRIOR_ROWS)

    ranked = [(mean(value), 0, str(level), level) for level, value in entries]
    ranked.append((mean(other), 1, "", None))
    if missing.count:
        ranked.append((mean(missing), 2, "", None))
    ranked.sort(key=lambda item: item[:3])
    codes = {level: code for code, (_, role, _, level) in enumerate(ranked) if role == 0}
    roles = {role: code for code, (_, role, _, _) in enumerate(ranked) if role}
    return codes, roles[1], roles.get(2, roles[1])
