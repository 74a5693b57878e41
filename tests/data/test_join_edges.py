"""Joins of what is hardly there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcluster.errors import DataError
from tests.data.test_joins import joined

WAYS: list[dict[str, Any]] = [{}, {"normalise": ["case", "whitespace"]}, {"normalise": "unicode", "near": 0.6}]
NOTHING = [pa.array([None, None]), pa.array([None, None], pa.string()), pa.array([float("nan"), None], pa.float64())]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("empty", NOTHING)
def test_keys_that_are_all_missing_find_nothing_and_are_not_found(
    tmp_path: Path, way: dict[str, Any], empty: Any
) -> None:
    full = pa.array(["a", "b"])
    for left, right in ((empty, full), (full, empty), (empty, empty)):
        tables = pa.table({"k": left, "y": [1, 2]}), pa.table({"k": right, "v": [1, 2]})
        table, found = joined(tmp_path, *tables, on="k", **way)
        assert table.column("v").to_pylist() == [None, None]
        assert (found.joins[0].match_rate, found.joins[0].unmatched_right) == (0.0, 2)


@pytest.mark.parametrize("way", WAYS)
def test_an_empty_text_is_a_key_and_a_missing_one_is_none(tmp_path: Path, way: dict[str, Any]) -> None:
    left, right = pa.table({"k": ["", None], "y": [1, 2]}), pa.table({"k": ["", "x"], "v": [7, 8]})
    assert joined(tmp_path, left, right, on="k", **way)[0].column("v").to_pylist() == [7, None]


def test_places_that_are_all_missing_find_nothing(tmp_path: Path) -> None:
    here, nowhere = [1.0, 2.0], pa.array([None, None], pa.float64())
    for left, right in ((here, nowhere), (nowhere, here), (nowhere, nowhere)):
        tables = pa.table({"a": left, "b": left, "y": [1, 2]}), pa.table({"a": right, "b": right, "v": [1, 2]})
        table, _ = joined(tmp_path, *tables, place={"left": ["a", "b"], "within_m": 1e6})
        assert table.column("v").to_pylist() == [None, None]


keys = st.lists(st.none() | st.sampled_from(["a", "A", "b", " b", "é", "e", "", "a b"]), min_size=1, max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(left=keys, right=keys, how=st.sampled_from(["left", "inner"]), blocks=st.integers(1, 6))
def test_a_join_is_that_of_two_loops(tmp_path: Path, left: list[Any], right: list[Any], how: str, blocks: int) -> None:
    def found(key: str | None) -> list[int]:
        as_is = [row for row, other in enumerate(right) if other == key and key is not None]
        forms = {other for other in right if other is not None and key is not None and other.lower() == key.lower()}
        return as_is or ([row for row, other in enumerate(right) if other in forms] if len(forms) == 1 else [])

    rows = [(y, v) for y, key in enumerate(left) for v in (found(key) or ([None] if how == "left" else []))]
    tables = (
        pa.table({"k": pa.array(left, pa.string()), "y": range(len(left))}),
        pa.table({"k": pa.array(right, pa.string()), "v": range(len(right))}),
    )
    asked = {"on": "k", "normalise": "case", "how": how, "max_fan_out": 99, "blocks": blocks}
    if not rows:
        with pytest.raises(DataError, match="leaves no rows"):
            joined(tmp_path, *tables, **asked)
        return
    table, report = joined(tmp_path, *tables, **asked)
    assert list(zip(table.column("y").to_pylist(), table.column("v").to_pylist(), strict=True)) == rows
    assert report.joins[0].rows_out == len(rows)
    assert report.joins[0].num_matched == sum(bool(found(key)) for key in left)
