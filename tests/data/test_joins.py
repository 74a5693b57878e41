from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcluster.data import LocalEngine, SourceCache, prepare, profile
from mlcluster.data.gather import Gathered, gather
from mlcluster.data.joins import normalised
from mlcluster.data.source import read_block
from mlcluster.errors import DataError
from mlcluster.spec import NORMALISATIONS, DataSpec


def joined(folder: Path, left: pa.Table, right: pa.Table, *, blocks: int = 1, **join: Any) -> tuple[pa.Table, Gathered]:
    """`left` with what one join brings to it, read from `blocks` row groups, and what is said of it."""
    pq.write_table(left, folder / "left.parquet", row_group_size=max(1, -(-left.num_rows // blocks)))
    pq.write_table(right, folder / "right.parquet", row_group_size=max(1, -(-right.num_rows // blocks)))
    spec = DataSpec.model_validate(
        {
            "source": "left.parquet",
            "sources": {"right": "right.parquet"},
            "joins": [{"source": "right", **join}],
            "target": "y",
        }
    )
    found = gather(spec, base=folder, cache=SourceCache(folder / "cache"))
    tables = [read_block(block, found.source.schema) for block in found.source.blocks]
    return pa.concat_tables(tables), found


LEFT = pa.table({"k": ["a", "b", None, "z", "a"], "y": [1, 2, 3, 4, 5]})
RIGHT = pa.table({"k": ["b", "a", "c", None], "v": [20, 10, 30, 40]})


def test_a_left_join_keeps_each_row_in_its_place(tmp_path: Path) -> None:
    table, found = joined(tmp_path, LEFT, RIGHT, on="k")
    assert table.to_pydict() == {**LEFT.to_pydict(), "v": [10, 20, None, None, 10]}
    report = found.joins[0]
    assert (report.rows_in, report.rows_out, report.rows_right) == (5, 5, 4)
    assert (report.match_rate, report.unmatched_left, report.missing_key) == (0.6, 2, 1)
    assert (report.unmatched_examples, report.unmatched_right_examples) == (("z",), ("c",))
    assert (report.unmatched_right, report.largest_fan_out) == (2, 1)


def test_an_inner_join_leaves_out_what_finds_nothing(tmp_path: Path) -> None:
    table, found = joined(tmp_path, LEFT, RIGHT, on="k", how="inner")
    assert table.to_pydict() == {"k": ["a", "b", "a"], "y": [1, 2, 5], "v": [10, 20, 10]}
    assert (found.joins[0].rows_out, found.source.num_rows) == (3, 3)


def test_rows_that_one_row_finds_stand_in_their_order(tmp_path: Path) -> None:
    right = pa.table({"k": ["a", "b", "a", "a"], "v": [1, 2, 3, 4]})
    table, found = joined(tmp_path, LEFT, right, on="k", max_fan_out=3)
    assert table.column("v").to_pylist() == [1, 3, 4, 2, None, None, 1, 3, 4]
    assert (found.joins[0].largest_fan_out, found.joins[0].largest_fan_out_key, found.joins[0].rows_out) == (3, "a", 9)


def test_a_fan_out_above_the_bound_is_refused_with_numbers_and_an_example(tmp_path: Path) -> None:
    right = pa.table({"k": ["a"] * 1000 + ["b"], "v": range(1001)})
    for is_lenient in (False, True):
        with pytest.raises(
            DataError, match=r"^data\.joins = right is above its max_fan_out of 1: a finds 1,000 rows"
        ) as e:
            joined(tmp_path, LEFT, right, on="k")
        assert "5 rows would become 2,003" in str(e.value)
        spec = DataSpec.model_validate(
            {
                "source": "left.parquet",
                "sources": {"right": "right.parquet"},
                "joins": [{"source": "right", "on": "k"}],
                "target": "y",
            }
        )
        with pytest.raises(DataError, match="max_fan_out"):
            profile(spec, base=tmp_path, is_lenient=is_lenient)


def test_a_match_rate_below_the_bound_is_refused_with_examples(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^data\.joins = right is below its min_match of 0\.7 .*60\.0% of 5 .*\(z\)"):
        joined(tmp_path, LEFT, RIGHT, on="k", min_match=0.7)
    _, found = joined(tmp_path, LEFT, RIGHT, on="k", min_match=0.6)
    assert [(one.kind, one.severity, one.value) for one in found.findings] == [("join", "warning", 0.6)]


def test_a_lenient_profile_says_what_a_run_would_refuse(tmp_path: Path) -> None:
    left = pa.table({"k": range(200), "x": np.arange(200.0) % 7, "y": ["a", "b"] * 100})
    pq.write_table(left, tmp_path / "left.parquet")
    pq.write_table(pa.table({"k": range(100), "v": np.arange(100.0)}), tmp_path / "right.parquet")
    spec = DataSpec.model_validate(
        {
            "source": "left.parquet",
            "sources": {"right": "right.parquet"},
            "joins": [{"source": "right", "on": "k", "min_match": 0.9}],
            "target": "y",
            "exclude": "k",
        }
    )
    found = profile(spec, base=tmp_path)
    assert [one.value for one in found.findings if one.kind == "join" and one.severity == "warning"] == [0.5]
    with pytest.raises(DataError, match=r"data\.joins = right is below its min_match"):
        prepare(spec, base=tmp_path, folder=tmp_path / "s", seed=0, engine=LocalEngine(1))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (pa.array([7, 8, None]), pa.array([7.0, 8.0, 9.0])),
        (pa.array(["7", "8", None]), pa.array([7, 8, 9], pa.int8())),
        (pa.array([7.0, 8.0, float("nan")]), pa.array(["7", "8", "nan"])),
        (pa.array([0, 1, None], pa.date32()), pa.array(["1970-01-01", "1970-01-02", "1970-01-03"])),
        (pa.array([0, 1000, None], pa.timestamp("ms")), pa.array([0, 10**6, 5], pa.timestamp("us"))),
        (pa.array(["u", "v", None]).dictionary_encode(), pa.array(["u", "v", "w"])),
    ],
)
def test_keys_of_different_types_are_equal_where_they_mean_the_same(
    tmp_path: Path, left: pa.Array, right: pa.Array
) -> None:
    table, _ = joined(tmp_path, pa.table({"k": left, "y": [1, 2, 3]}), pa.table({"k": right, "v": [1, 2, 3]}), on="k")
    assert table.column("v").to_pylist() == [1, 2, None]


def test_a_key_of_several_columns_is_matched_as_a_whole(tmp_path: Path) -> None:
    left = pa.table({"a": ["x", "x", "xy", None], "b": ["yz", "y", "z", "z"], "y": [1, 2, 3, 4]})
    right = pa.table({"first": ["x", "xy"], "b": ["yz", "z"], "v": [1, 2]})
    on = [{"left": "a", "right": "first"}, "b"]
    table, found = joined(tmp_path, left, right, on=on)
    assert table.column("v").to_pylist() == [1, None, 2, None]
    assert found.joins[0].on == ("a = first", "b")
    assert found.joins[0].unmatched_examples == ("x | y",)


def test_a_key_that_stands_there_just_so_comes_before_its_normalised_form(tmp_path: Path) -> None:
    left = pa.table({"k": ["IT", "it", "It"], "y": [1, 2, 3]})
    right = pa.table({"k": ["it", "IT"], "v": [1, 2]})
    table, found = joined(tmp_path, left, right, on="k", normalise="case")
    assert table.column("v").to_pylist() == [2, 1, None]
    assert (found.joins[0].ambiguous, found.joins[0].matched_as_is) == (1, 2)
    assert "1 could be several keys once normalised" in found.findings[0].message


def test_columns_are_chosen_and_renamed_and_never_stand_twice(tmp_path: Path) -> None:
    right = pa.table({"k": ["a"], "y": [5], "v": [6]})
    with pytest.raises(
        DataError, match=r"^data\.joins = right brings the column y, which is there already; give a prefix"
    ):
        joined(tmp_path, LEFT, right, on="k")
    assert joined(tmp_path, LEFT, right, on="k", prefix="r_")[0].column_names == ["k", "y", "r_y", "r_v"]
    assert joined(tmp_path, LEFT, right, on="k", columns="v")[0].column_names == ["k", "y", "v"]


@pytest.mark.parametrize(
    ("join", "message"),
    [
        ({"on": {"left": "K2", "right": "k"}}, r"is joined on K2, which is no column of left.parquet; use one of k, y"),
        ({"on": {"left": "k", "right": "kk"}}, r"is joined on kk, which is no column of right; did you mean k\?"),
        ({"on": "k", "columns": ["vv", "v"]}, r"takes vv, which is no column of right"),
    ],
)
def test_a_column_that_is_not_there_is_an_error(tmp_path: Path, join: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=rf"^data\.joins = right {message}"):
        joined(tmp_path, LEFT, RIGHT, **join)


def test_a_second_join_may_use_what_the_first_has_brought(tmp_path: Path) -> None:
    pq.write_table(pa.table({"person": [1, 2], "y": [0, 1]}), tmp_path / "people.parquet")
    pq.write_table(pa.table({"person": [2, 1], "zip": ["b", "a"]}), tmp_path / "homes.parquet")
    pq.write_table(pa.table({"zip": ["a", "b"], "income": [10, 20]}), tmp_path / "areas.parquet")
    spec = DataSpec.model_validate(
        {
            "source": "people.parquet",
            "sources": {"homes": "homes.parquet", "areas": "areas.parquet"},
            "joins": [{"source": "homes", "on": "person"}, {"source": "areas", "on": "zip"}],
            "target": "y",
        }
    )
    found = gather(spec, base=tmp_path)
    assert read_block(found.source.blocks[0], found.source.schema).column("income").to_pylist() == [10, 20]
    assert [file.name for file in found.source.files] == [
        "people.parquet",
        "homes/homes.parquet",
        "areas/areas.parquet",
    ]
    assert [record.name for record in found.records] == ["people", "homes", "areas"]


def test_another_right_table_or_another_rule_is_joined_anew(tmp_path: Path) -> None:
    assert joined(tmp_path, LEFT, RIGHT, on="k")[0].column("v").to_pylist()[0] == 10
    other = RIGHT.set_column(1, "v", pa.array([1, 2, 3, 4]))
    assert joined(tmp_path, LEFT, other, on="k")[0].column("v").to_pylist()[0] == 2
    assert joined(tmp_path, LEFT, other, on="k", how="inner")[0].num_rows == 3


def test_the_join_is_part_of_what_a_snapshot_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    left = pa.table({"k": np.char.upper(rng.integers(0, 50, 300).astype(str)), "y": rng.integers(0, 2, 300)})
    pq.write_table(left, tmp_path / "left.parquet")
    pq.write_table(pa.table({"k": np.arange(50).astype(str), "v": rng.normal(size=50)}), tmp_path / "right.parquet")
    digests = set()
    for normalise in ([], ["case"], ["case"]):
        spec = DataSpec.model_validate(
            {
                "source": "left.parquet",
                "sources": {"right": "right.parquet"},
                "joins": [{"source": "right", "on": "k", "normalise": normalise}],
                "target": "y",
            }
        )
        snapshot = prepare(spec, base=tmp_path, folder=tmp_path / "s", seed=0, engine=LocalEngine(1))
        digests.add(snapshot.digest)
        assert snapshot.manifest["joins"][0]["rows_out"] == 300
    assert len(digests) == 2


STREETS = ("Oak", "Élysée", "St. John's", "Main", "Königs", "O'Hara", "Peach-tree", "5th", "Mill", "Park")
KINDS = {"Street": "St.", "Avenue": "ave", "Boulevard": "BLVD", "Road": "Rd", "North Lane": "N. Ln"}


def addresses(count: int, rng: np.random.Generator) -> list[str]:
    """Different addresses, written in full."""
    names = [f"{number} {street} {kind}" for number in range(1, 200) for street in STREETS for kind in KINDS]
    return [str(name) for name in rng.choice(names, size=count, replace=False)]


def perturbed(address: str, rng: np.random.Generator) -> str:
    """The same address as somebody else would write it."""
    for kind, short in KINDS.items():
        if address.endswith(kind) and rng.random() < 0.5:
            address = address.removesuffix(kind) + short
    if rng.random() < 0.3:
        address = address.upper() if rng.random() < 0.5 else address.lower()
    if rng.random() < 0.3:
        address = address.replace("é", "e").replace("É", "E").replace("ö", "o").replace("Ö", "O")
    if rng.random() < 0.3:
        address = address.replace("'", "").replace(".", "").replace("-", " ")
    if rng.random() < 0.3:
        address = "  " + address.replace(" ", "  ") + " "
    return address


def typo(address: str, rng: np.random.Generator) -> str:
    """With one letter lost, which no normalisation brings back."""
    place = int(rng.integers(2, len(address)))
    return address[:place] + address[place + 1 :]


def perturbed_tables(seed: int) -> tuple[pa.Table, pa.Table]:
    """10,000 rows that name 2,000 addresses in their own way (`truth`), 2 % with a typo, and 500 that name others."""
    rng = np.random.default_rng(seed)
    known = addresses(2_500, rng)
    right, strangers = known[:2_000], known[2_000:]
    truth = rng.integers(0, 2_000, 10_000)
    texts = [perturbed(right[index], rng) for index in truth]
    texts = [typo(text, rng) if rng.random() < 0.02 else text for text in texts]
    texts += [perturbed(text, rng) for text in strangers]
    left = pa.table({"where": texts, "truth": [*truth.tolist(), *[-1] * len(strangers)], "y": [0] * len(texts)})
    return left, pa.table({"address": right, "number": range(2_000)})


def matches(folder: Path, seed: int, **join: Any) -> tuple[float, float, pa.Table]:
    """Recall and precision of the join of `perturbed_tables`, and its rows."""
    left, right = perturbed_tables(seed)
    table, found = joined(folder, left, right, on={"left": "where", "right": "address"}, **join)
    number = np.array(table.column("number").fill_null(-1))
    truth = np.array(table.column("truth"))
    is_right = (number == truth) & (number >= 0)
    assert found.joins[0].match_rate == pytest.approx(float((number >= 0).mean()))
    return is_right.sum() / (truth >= 0).sum(), is_right.sum() / max((number >= 0).sum(), 1), table


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_other_spellings_are_found_and_others_are_not(tmp_path: Path, seed: int) -> None:
    recall, precision, _ = matches(tmp_path, seed, normalise=list(NORMALISATIONS))
    assert recall >= 0.95
    assert precision >= 0.98
    as_is, _, _ = matches(tmp_path, seed)
    assert as_is < 0.5  # or the copy would be too like the original to show anything


def test_blocks_do_not_change_a_join(tmp_path: Path) -> None:
    results = [matches(tmp_path, 0, normalise=list(NORMALISATIONS), blocks=blocks) for blocks in (1, 50)]
    assert results[0][2].equals(results[1][2])
    assert perturbed_tables(0)[0].equals(perturbed_tables(0)[0])
    assert not perturbed_tables(0)[0].equals(perturbed_tables(1)[0])


@pytest.mark.parametrize(
    ("step", "text", "form"),
    [
        ("unicode", "Cafe\u0301 Ｋ", "Cafe K"),  # noqa: RUF001
        ("case", "STRASSE Straße", "strasse strasse"),
        ("punctuation", "O'Brien & Sons, Inc. (U.S.)", "OBrien & Sons Inc US"),
        ("whitespace", "  a \t b\u00a0c ", "a b c"),
        ("abbreviations", "12 N. Main St.", "12 north Main street"),
    ],
)
def test_each_step_does_its_one_thing(step: Any, text: str, form: str) -> None:
    assert normalised([text], [step]) == [form]


def test_own_abbreviations_come_before_the_built_in_ones() -> None:
    assert normalised(["st mkt"], ["abbreviations"], {"St.": "saint", "MKT": "market"}) == ["saint market"]


@given(st.text(max_size=30))
def test_a_normalised_text_is_its_own_normal_form(text: str) -> None:
    once = normalised([text], NORMALISATIONS)
    assert normalised(once, NORMALISATIONS) == once
