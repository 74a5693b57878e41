from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from mlcluster.data.augment import thin_cells


def table_of(cells: dict[tuple[str | None, float | None], int]) -> pa.Table:
    rows = [key for key, count in cells.items() for _ in range(count)]
    return pa.table({"colour": [row[0] for row in rows], "size": pa.array([row[1] for row in rows], pa.float64())})


def test_a_thin_cell_is_told_with_its_exact_count_and_the_empty_one_last() -> None:
    table = table_of({("red", 1): 50, ("red", 2): 40, ("blue", 1): 3, ("blue", 2): 60, ("green", 2): 30})
    found = thin_cells(table, ["colour", "size"], min_rows=30, num_bins=4)
    assert [(cell.levels, cell.num_rows) for cell in found] == [(("blue", "1"), 3), (("green", "1"), 0)]
    assert found[0].num_expected == 63 * 53 / 183
    message = found[0].finding(183, 30).message
    assert message.startswith("colour = blue and size = 1 has 3 of 183 train rows, under 30 (18 if")
    assert found[0].finding(183, 30).kind == "thin_slice"


def test_a_level_that_is_rare_by_itself_makes_no_thin_cells() -> None:
    table = table_of({("red", 1): 50, ("red", 2): 40, ("blue", 1): 3})
    assert thin_cells(table, ["colour", "size"], min_rows=30, num_bins=4) == ()


def test_missing_values_are_a_level() -> None:
    table = table_of({("red", 1): 50, ("red", 2): 40, (None, 1): 2, (None, 2): 40, ("red", None): 50})
    found = thin_cells(table, ["colour", "size"], min_rows=30, num_bins=4)
    assert [(cell.levels, cell.num_rows) for cell in found] == [
        (("<missing>", "1"), 2),
        (("<missing>", "<missing>"), 0),
    ]


@given(
    values=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30)), min_size=1, max_size=200),
    min_rows=st.integers(1, 10),
)
def test_counts_are_those_of_counting_by_hand(values: list[tuple[str, int]], min_rows: int) -> None:
    table = pa.table({"word": [word for word, _ in values], "number": [number for _, number in values]})
    found = thin_cells(table, ["word", "number"], min_rows=min_rows, num_bins=3)
    numbers = np.array([number for _, number in values])
    for cell in found:
        word, span = cell.levels
        low, _, high = span.partition("..")
        # The low end is of the bin before, but for the lowest number of all, unless that has a bin for itself.
        is_in = (numbers > float(low)) & (numbers <= float(high)) if high else numbers == float(low)
        if high and float(low) == numbers.min() and np.mean(numbers == numbers.min()) < 1 / 3:
            is_in |= numbers == float(low)
        assert cell.num_rows == sum(inside and one == word for inside, (one, _) in zip(is_in, values, strict=True))
        assert cell.num_rows < min_rows


def test_numbers_are_cut_into_bins_that_hold_about_as_many_rows() -> None:
    rng = np.random.default_rng(0)
    table = pa.table({"word": rng.choice(["a", "b"], 4000), "number": rng.normal(size=4000)})
    found = thin_cells(table, ["word", "number"], min_rows=900, num_bins=4)
    assert len(found) == 8
    assert all(400 < cell.num_rows < 600 for cell in found)
