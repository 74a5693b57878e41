"""Joins by keys that agree with none, and by places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcluster.data.joins.nearest import NearestKeys
from mlcluster.errors import DataError, SpecError
from mlcluster.spec import NORMALISATIONS, parse_spec, parse_yaml
from tests.data.test_joins import joined, matches

FIRMS = ["northwind traders", "contoso limited", "fabrikam incorporated", "adventure works", "tailspin toys"]


def nearest(text: str, keys: list[str], similarity: float = 0.6) -> str | None:
    place = int(NearestKeys(keys, min_similarity=similarity).find([text])[0])
    return None if place < 0 else keys[place]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("northwnd traders", "northwind traders"),
        ("contosso limited", "contoso limited"),
        ("tailspin tyos", "tailspin toys"),
        ("wingtip", None),
        ("", None),
    ],
)
def test_a_slip_finds_its_key_and_a_stranger_none(text: str, key: str | None) -> None:
    assert nearest(text, FIRMS) == key


def test_numbers_must_agree() -> None:
    keys = ["12 oak street", "14 oak street", "5th avenue"]
    assert nearest("12 oak stret", keys) == "12 oak street"
    assert nearest("13 oak street", keys) is None
    assert nearest("6th avenue", keys) is None


def test_what_is_as_near_to_two_is_neithers() -> None:
    assert nearest("main streex", ["main streea", "main streeb"], 0.5) is None
    assert nearest("main streex", ["main streea", "somewhere else"], 0.5) == "main streea"


@given(st.lists(st.text(max_size=8), min_size=1, max_size=20, unique=True), st.lists(st.text(max_size=8), max_size=20))
def test_a_key_is_found_whatever_else_is_asked_for(keys: list[str], texts: list[str]) -> None:
    together, apart = (NearestKeys(keys, min_similarity=0.7) for _ in range(2))
    assert together.find(texts).tolist() == [int(apart.find([text])[0]) for text in texts]
    assert together.find(texts[::-1]).tolist() == together.find(texts).tolist()[::-1]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_near_keys_find_the_typos_too(tmp_path: Path, seed: int) -> None:
    recall, precision, _ = matches(tmp_path, seed, normalise=list(NORMALISATIONS), near=0.8)
    without, _, _ = matches(tmp_path, seed, normalise=list(NORMALISATIONS))
    assert recall >= 0.99 > without
    assert precision >= 0.995


def test_blocks_do_not_change_a_join_by_near_keys(tmp_path: Path) -> None:
    results = [matches(tmp_path, 0, normalise=list(NORMALISATIONS), near=0.8, blocks=blocks) for blocks in (1, 50)]
    assert results[0][2].equals(results[1][2])


def test_the_report_shows_what_was_taken_for_a_slip(tmp_path: Path) -> None:
    left = pa.table({"k": ["northwind traders", "northwnd traders", "nobody", None], "y": [1, 2, 3, 4]})
    table, found = joined(tmp_path, left, pa.table({"k": FIRMS, "v": range(5)}), on="k", near=0.6)
    assert table.column("v").to_pylist() == [0, 0, None, None]
    report = found.joins[0]
    assert (report.matched_as_is, report.matched_near, report.unmatched_examples) == (1, 1, ("nobody",))
    assert "1 of them by a near key (northwnd traders ~ northwind traders)" in found.findings[0].message


# A degree of latitude is 111,195 m on a sphere of 6,371,008.8 m.
STATIONS = pa.table({"lat": [0.0, 0.0, None, 95.0], "lon": [0.0, 1.0, 3.0, 0.0], "v": [1, 2, 3, 4]})


def test_the_nearest_place_within_the_distance_is_found(tmp_path: Path) -> None:
    left = pa.table({"lat": [0.001, 0.0, 0.01, None, 0.0], "lon": [0.0, 0.6, 0.0, 0.0, float("nan")], "y": range(5)})
    place = {"left": ["lat", "lon"], "within_m": 500}
    table, found = joined(tmp_path, left, STATIONS, place=place)
    assert table.column_names == ["lat", "lon", "y", "v"]
    assert table.column("v").to_pylist() == [1, None, None, None, None]
    report = found.joins[0]
    assert report.on == ("lat, lon within 500 m",)
    assert (report.num_matched, report.missing_key, report.unmatched_right) == (1, 2, 3)
    assert report.near_examples == ("0.00100, 0.00000 ~ 0.00000, 0.00000",)
    far = joined(tmp_path, left, STATIONS, place={**place, "within_m": 45_000})[0]
    assert far.column("v").to_pylist() == [1, 2, 1, None, None]


@pytest.mark.parametrize(("metres", "is_found"), [(111_190, False), (111_200, True)])
def test_distances_are_in_metres_and_cross_the_date_line(tmp_path: Path, metres: float, is_found: bool) -> None:
    left = pa.table({"a": [0.0], "b": [179.5], "y": [0]})
    right = pa.table({"lat": [0.0], "lon": [-179.5], "v": [7]})
    place = {"left": ["a", "b"], "right": ["lat", "lon"], "within_m": metres}
    table, _ = joined(tmp_path, left, right, place=place)
    assert table.column("v").to_pylist() == [7 if is_found else None]


def test_blocks_do_not_change_a_join_by_place_and_it_is_that_of_all_pairs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    left = pa.table({"lat": rng.uniform(52, 53, 1000), "lon": rng.uniform(13, 14, 1000), "y": range(1000)})
    right = pa.table({"lat": rng.uniform(52, 53, 200), "lon": rng.uniform(13, 14, 200), "v": range(200)})
    place = {"left": ["lat", "lon"], "within_m": 3000}
    results = [joined(tmp_path, left, right, place=place, blocks=blocks)[0] for blocks in (1, 50)]
    assert results[0].equals(results[1])
    metres = all_distances(left, right)
    expected = [int(row.argmin()) if row.min() <= 3000 else None for row in metres]
    assert results[0].column("v").to_pylist() == expected
    assert 100 < sum(one is not None for one in expected) < 900


def all_distances(left: pa.Table, right: pa.Table) -> np.ndarray:
    """Between all pairs in metres, by the law of haversines, (n, m)."""
    (a, b), (c, d) = ([np.radians(np.array(t.column(name))) for name in ("lat", "lon")] for t in (left, right))
    half = np.sin((a[:, None] - c) / 2) ** 2 + np.cos(a)[:, None] * np.cos(c) * np.sin((b[:, None] - d) / 2) ** 2
    return 2 * 6_371_008.8 * np.arcsin(np.sqrt(half))


def test_a_place_that_is_no_number_is_an_error(tmp_path: Path) -> None:
    left = pa.table({"lat": ["north"], "lon": ["east"], "y": [1]})
    with pytest.raises(DataError, match=r"^data\.joins = right is joined on lat, which is string and no number"):
        joined(tmp_path, left, STATIONS, place={"left": ["lat", "lon"], "within_m": 500})


@pytest.mark.parametrize(
    ("join", "problem"),
    [
        ("{source: a}", "needs either on, the columns of its key, or place; give one of them"),
        ("{source: a, on: k, place: {left: [x, y], within_m: 5}}", "needs either on"),
        (
            "{source: a, place: {left: [x, y], within_m: 5}, normalise: case}",
            "normalises a place, which has no spelling",
        ),
        ("{source: a, on: k, near: 0.2}", "near = 0.2 is wrong"),
        ("{source: a, place: {left: [x, y], within_m: 0}}", "within_m = 0 is wrong"),
    ],
)
def test_what_makes_no_sense_is_refused(join: str, problem: str) -> None:
    text = f"data:\n  source: a\n  target: y\n  sources: {{a: a.csv}}\n  joins:\n    - {join}\n"
    with pytest.raises(SpecError, match=problem):
        parse_spec(parse_yaml(text, source="it.yaml"))
