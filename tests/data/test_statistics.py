from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from data_tables import people, people_tables
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcluster.data.statistics import (
    GRID_POINTS,
    CategoryPartial,
    NumberPartial,
    category_partial,
    merge_all,
    number_partial,
)

finite = st.floats(-1e6, 1e6)


def numbers(values: list[float]) -> NumberPartial:
    return number_partial(pa.chunked_array([pa.array(values, pa.float64())]))


def merged(parts: list[NumberPartial]) -> NumberPartial:
    result = merge_all(parts)
    assert isinstance(result, NumberPartial)
    return result


@given(blocks=st.lists(st.lists(finite, max_size=20), min_size=1, max_size=6))
def test_blocks_add_up_to_the_whole(blocks: list[list[float]]) -> None:
    parts, whole = merged([numbers(block) for block in blocks]), numbers([v for block in blocks for v in block])
    assert (parts.count, parts.missing) == (whole.count, whole.missing)
    assert parts.values.tolist() == whole.values.tolist()
    assert parts.weights.tolist() == whole.weights.tolist()
    assert parts.mean == pytest.approx(whole.mean, abs=1e-6)
    assert parts.squared_deviations == pytest.approx(whole.squared_deviations, rel=1e-6, abs=1e-3)


@given(values=st.lists(finite, min_size=1, max_size=50), share=st.floats(0, 1))
def test_a_quantile_is_the_first_value_that_reaches_its_share(values: list[float], share: float) -> None:
    expected = np.quantile(values, share, method="inverted_cdf")
    assert numbers(values).quantile(share) == expected


@settings(deadline=None)
@given(table=people_tables(min_rows=2), cut=st.floats(0, 1))
def test_category_counts_add_up(table: pa.Table, cut: float) -> None:
    column = table.column("job")
    position = int(cut * table.num_rows)
    for name in ("rich", "person"):
        target = table.column(name)
        parts = merge_all(
            [
                category_partial(column.slice(0, position), target.slice(0, position)),
                category_partial(column.slice(position), target.slice(position)),
            ]
        )
        whole = category_partial(column, target)
        assert isinstance(parts, CategoryPartial)
        assert counts_of(parts) == counts_of(whole)
        assert (parts.count, parts.missing) == (whole.count, whole.missing)


def counts_of(partial: CategoryPartial) -> dict[str | None, tuple[object, ...]]:
    """Everything that is known of each level, whatever the order of levels and target values."""
    found: dict[str | None, tuple[object, ...]] = {}
    for row, level in enumerate([*partial.levels.to_pylist(), None]):
        values = partial.target.values
        joint = None if values is None else {v: int(partial.target.joint[row, i]) for i, v in enumerate(values)}
        sums = None if partial.target.sums is None else float(partial.target.sums[row])
        found[level] = (int(partial.counts[row]), joint, sums)
    return found


def test_null_and_nan_are_missing() -> None:
    partial = number_partial(pa.chunked_array([pa.array([1.0, None, float("nan"), 3.0])]))
    assert (partial.count, partial.missing) == (2, 2)
    assert partial.mean == 2.0


def test_large_blocks_are_kept_as_a_grid_with_a_small_rank_error() -> None:
    values = np.random.default_rng(1).lognormal(size=100_000)
    parts = [number_partial(pa.chunked_array([chunk])) for chunk in np.array_split(values, 10)]
    assert all(len(part.values) <= GRID_POINTS for part in parts)
    whole = merged(parts)
    assert whole.mean == pytest.approx(values.mean())
    assert whole.squared_deviations == pytest.approx(((values - values.mean()) ** 2).sum())
    for share in (0.01, 0.25, 0.5, 0.75, 0.99):
        rank = (values <= whole.quantile(share)).mean()
        assert rank == pytest.approx(share, abs=5e-4)


def test_a_merged_grid_does_not_grow_without_bound() -> None:
    rng = np.random.default_rng(2)
    whole = merged([number_partial(pa.chunked_array([rng.normal(size=4000)])) for _ in range(60)])
    assert len(whole.values) <= 8 * GRID_POINTS
    assert whole.weights.sum() == pytest.approx(240_000)
    assert not whole.is_exact


def test_partials_of_different_columns_are_not_merged() -> None:
    table = people(10)
    with pytest.raises(TypeError, match="two columns"):
        merge_all([number_partial(table.column("age")), category_partial(table.column("job"), table.column("rich"))])
