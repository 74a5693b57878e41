from __future__ import annotations

import json
import re
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_tables import people, shared_data, write_people

from mlcluster.data import DataProfile, profile
from mlcluster.data.association import rank_correlation, single_feature_auc
from mlcluster.errors import DataError
from mlcluster.spec import DataSpec, parse_yaml


def profiled(table: pa.Table, folder: Path, **settings: Any) -> DataProfile:
    pq.write_table(table, folder / "t.parquet", row_group_size=max(table.num_rows // 3, 1))
    return profile(DataSpec(**{"source": "t.parquet", "target": "y", **settings}), base=folder)


def clean(num_rows: int = 600, seed: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=num_rows)
    return {
        "x": x,
        "word": np.array(["a", "b", "c"])[rng.integers(0, 3, num_rows)],
        "y": (x + rng.normal(0, 2, num_rows) > 0).astype(int),
    }


def told(result: DataProfile) -> set[tuple[str, str | None]]:
    return {(finding.kind, finding.column) for finding in result.findings}


def test_nothing_is_found_in_clean_data(tmp_path: Path) -> None:
    assert profiled(pa.table(clean()), tmp_path).findings == ()


@pytest.mark.parametrize("settings", [{}, {"time": "when"}, {"key": "who", "sensitive": ["word"]}])
def test_nothing_is_found_in_clean_data_on_40_of_40_seeds(tmp_path: Path, settings: dict[str, Any]) -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        data = {**clean(900, seed), "n": rng.poisson(4, 900), "who": [f"w{v}" for v in rng.integers(0, 300, 900)]}
        data["holes"] = np.where(rng.random(900) < 0.1, np.nan, rng.exponential(size=900))
        data["when"] = np.datetime64("2024-01-01") + np.sort(rng.integers(0, 500, 900))
        given = {"exclude": [name for name in ("who", "when") if name not in settings.values()], **settings}
        assert profiled(pa.table(data), tmp_path, **given).findings == (), seed


@pytest.mark.parametrize(
    ("kind", "column", "values"),
    [
        ("constant", "bad", lambda data: np.full(600, 7)),
        ("id_like", "bad", lambda data: np.arange(600)),
        ("id_like", "bad", lambda data: np.array([f"id-{i * 7919 % 600}" for i in range(600)])),
        ("leak", "bad", lambda data: data["y"] + np.random.default_rng(0).normal(0, 0.2, 600)),
        ("leak", "bad", lambda data: np.array(["low", "high"])[data["y"]]),
        ("sentinel", "bad", lambda data: np.where(np.arange(600) % 9, np.arange(600) % 50, 999)),
        ("sentinel", "bad", lambda data: np.where(np.arange(600) % 9, np.arange(600) % 50, -1)),
        ("sentinel", "bad", lambda data: np.array([["p", "q", "?"][i % 3] for i in range(600)])),
        ("many_missing", "bad", lambda data: np.where(np.arange(600) % 2, np.nan, data["x"] * 3)),
        ("all_missing", "bad", lambda data: np.full(600, np.nan)),
        ("class_imbalance", "y", lambda data: None),
    ],
)
def test_a_planted_defect_is_found_and_no_other(tmp_path: Path, kind: str, column: str, values: Any) -> None:
    data = clean()
    if column == "y":
        data["y"] = (np.arange(600) % 25 == 0).astype(int)
    else:
        data["bad"] = values(data)
    assert told(profiled(pa.table(data), tmp_path)) == {(kind, column)}


def test_a_leak_into_a_quantity_is_found(tmp_path: Path) -> None:
    data = clean()
    data["y"] = data["x"] * 2 + np.random.default_rng(0).normal(0, 5, 600)
    data["bad"] = data["y"] ** 3
    assert told(profiled(pa.table(data), tmp_path)) == {("leak", "bad")}


def test_repeated_rows_are_counted_within_and_across_splits(tmp_path: Path) -> None:
    table = pa.table({**clean(), "part": ["train"] * 400 + ["validation"] * 100 + ["test"] * 100})
    again = table.slice(0, 12).set_column(3, "part", pa.array(["test"] * 12))
    result = profiled(pa.concat_tables([table, again]), tmp_path, split="part")
    found = {finding.kind: finding.value for finding in result.findings}
    assert found == {"duplicate_rows": 12, "split_overlap": 12}


def test_the_blocks_do_not_change_the_profile(tmp_path: Path) -> None:
    results = []
    for size in (400, 33):
        write_people(tmp_path, row_group_size=size)
        spec = DataSpec(source="people.parquet", target="rich", key="person")
        results.append(profile(spec, base=tmp_path).to_json())
    for result in results:
        for column in result["columns"]:
            column["mean"] = column["mean"] and pytest.approx(column["mean"])
            column["deviation"] = column["deviation"] and pytest.approx(column["deviation"])
        result.pop("num_bytes")
        result.pop("source_digest")  # of the file, which the blocks do change
        result.pop("sources")
    assert results[0] == results[1]


def test_a_profile_is_plain_json_without_nan(tmp_path: Path) -> None:
    table = people(200).append_column("when", pa.array(range(200), pa.timestamp("s")))
    table = table.append_column("vector", pa.array([[1.0]] * 200))
    result = profiled(table, tmp_path, target="rich")
    again = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert [column["kind"] for column in again["columns"]][-2:] == ["time", "other"]
    assert ("unsupported", "when") in told(result)
    assert again["columns"][-2]["maximum"] == "1970-01-01 00:03:19"


def test_the_summary_has_one_aligned_line_a_column(tmp_path: Path) -> None:
    result = profiled(people(200), tmp_path, target="rich", exclude=["person"])
    lines = result.summary().splitlines()
    assert lines[0] == "t.parquet: 200 rows, 6 columns, binary (2 classes)"
    start = lines.index(next(line for line in lines if line.startswith("age ")))
    assert [line.split()[0] for line in lines[start : start + 6]] == people(1).column_names
    assert max(map(len, lines[start : start + 6])) < 140


def test_the_suggested_expectations_hold_for_the_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    exact = rng.normal(size=200) * 10.0 ** rng.integers(-9, 12, 200)
    table = people(200).append_column("exact", pa.array(exact))
    table = table.append_column("grade", pa.array(np.array(["yes", "1", "no: 2"])[rng.integers(0, 3, 200)]))
    result = profiled(table, tmp_path, target="rich", exclude=["person"])
    suggested = result.suggested_expect()
    assert suggested["job"] == ["clerk", "cook", "nurse", "pilot", "poet"]
    assert suggested["grade"] == {"one_of": ["1", "no: 2", "yes"], "not_null": True}
    # As it stands in the terminal and on the page, to be pasted.
    text = result.summary().partition("under data:\n\n")[2]
    assert parse_yaml(text, source="t").values == {"expect": suggested}
    assert escape(text) in result.to_html()
    for expect in (suggested, {**suggested, "exact": f"{float(exact.min())}..{np.nextafter(exact.max(), 0)}"}):
        spec = DataSpec(source="t.parquet", target="rich", exclude=("person",), expect=expect)
        broken = [finding.column for finding in profile(spec, base=tmp_path).findings if finding.kind == "bad_rows"]
        assert broken == ([] if expect is suggested else ["exact"])


class TagBalance(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not any(name in ("src", "href") for name, _ in attrs)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone_and_escapes_what_the_data_says(tmp_path: Path) -> None:
    data = clean()
    data["<script>alert(1)</script>"] = np.array(["<b>", "&"])[np.arange(600) % 2]
    page = profiled(pa.table(data), tmp_path).to_html()
    parser = TagBalance()
    parser.feed(page)
    assert parser.open == []
    assert "script" not in parser.seen
    assert "b" in parser.seen  # our own figures, not the data's
    assert "&lt;b&gt;" in page


def test_the_area_under_the_curve_counts_ties_half() -> None:
    scores = np.array([1.0, 2.0, 2.0, 3.0])
    assert single_feature_auc(scores, np.array([False, False, True, True])) == pytest.approx(3.5 / 4)
    assert single_feature_auc(-scores, np.array([False, False, True, True])) == pytest.approx(3.5 / 4)
    assert single_feature_auc(np.zeros(4), np.array([False, True, True, True])) == 0.5


def test_rank_correlation_sees_order_alone() -> None:
    values = np.array([1.0, 5.0, 2.0, 9.0])
    assert rank_correlation(values, -np.exp(values)) == pytest.approx(1.0)
    assert rank_correlation(values, np.ones(4)) == 0.0


def test_the_known_defects_of_real_tables_are_found() -> None:
    base = shared_data()
    bike = profile(DataSpec(source="bike_sharing_hourly.parquet", target="cnt", time="dteday"), base=base)
    assert {("leak", "registered"), ("id_like", "instant")} <= told(bike)
    bank = profile(DataSpec(source="bank_marketing.parquet", target="y"), base=base)
    assert {("sentinel", "pdays"), ("sentinel", "default"), ("class_imbalance", "y")} <= told(bank)
    adult = profile(DataSpec(source="adult.parquet", target="income", split={"column": "split"}), base=base)  # type: ignore[arg-type]
    assert not {kind for kind, _ in told(adult)} & {"leak", "id_like", "constant"}
    assert [finding.value for finding in adult.findings if finding.kind == "duplicate_rows"] == [52.0]


def test_a_column_that_stands_twice_is_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=600)
    word = np.array(["a", "b", "c"])[rng.integers(0, 3, 600)]
    table = pa.table({"x": x, "word": word, "copy": word, "nearly": [*x[:-1], 0.5], "y": rng.integers(0, 2, 600)})
    told = [finding for finding in profiled(table, tmp_path).findings if finding.kind == "duplicate_column"]
    assert [(finding.column, "the same as word" in finding.message) for finding in told] == [("copy", True)]


def test_numbers_in_a_column_of_text_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mixed = [str(value) for value in rng.integers(0, 90, 600)]
    mixed[::20] = ["about 40"] * 30
    code = [f"{value:05d}" for value in rng.integers(0, 50, 600)]
    word = np.array(["a", "b", "7"])[rng.integers(0, 3, 600)]
    table = pa.table({"mixed": mixed, "code": code, "word": word, "y": rng.integers(0, 2, 600)})
    told = {finding.column: finding for finding in profiled(table, tmp_path).findings if finding.kind == "mixed_types"}
    assert set(told) == {"mixed", "code"}
    assert (told["mixed"].severity, told["code"].severity) == ("warning", "info")
    assert "95.0% of its values are numbers, and 'about 40' is not" in told["mixed"].message


def grouped(num_rows: int = 3000) -> dict[str, Any]:
    """Two groups of people; hardly any of the smaller one has a 1 for its target. What is else in the table is even."""
    rng = np.random.default_rng(4)
    is_few = np.arange(num_rows) % 5 == 0
    y = rng.integers(0, 2, num_rows)
    y[is_few & (rng.random(num_rows) < 0.97)] = 0
    return {**clean(num_rows), "group": np.where(is_few, "few", "most"), "even": np.arange(num_rows) % 3, "y": y}


def thin(result: DataProfile) -> list[str]:
    return [finding.message for finding in result.findings if finding.kind == "thin_slice"]


@pytest.mark.parametrize("excluded", [[], ["group"]])
def test_a_thin_slice_of_a_sensitive_column_is_told(tmp_path: Path, excluded: list[str]) -> None:
    data = grouped()
    result = profiled(pa.table(data), tmp_path, sensitive=["group"], exclude=excluded)
    num_train = result.num_split_rows["train"]
    (message,) = thin(result)
    found = re.fullmatch(r"group = few and y = 1 has (\d+) of (\d+) train rows, under 30 \(\d+ if .*", message)
    assert found is not None
    assert int(found[2]) == num_train
    assert 0 < int(found[1]) < 30


def test_thin_slices_are_told_only_where_the_project_names_columns(tmp_path: Path) -> None:
    table = pa.table(grouped())
    assert thin(profiled(table, tmp_path)) == []
    assert thin(profiled(table, tmp_path, sensitive=["even"])) == []
    by_coverage = profiled(table, tmp_path, augment={"coverage": {"columns": ["group", "even"], "min_rows": 150}})
    assert len(thin(by_coverage)) == 3
    with pytest.raises(DataError, match=r"data.augment.coverage.columns = grup is no column; use some of x, word"):
        profiled(table, tmp_path, augment={"coverage": {"columns": ["grup", "even"]}})


def test_of_a_sample_a_thin_slice_is_about_as_thin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlcluster.data.profile_pass.SAMPLE_ROWS", 5_000)
    (message,) = thin(
        profiled(pa.table(grouped(20_000)), tmp_path, sensitive=["group"], augment={"coverage": {"min_rows": 200}})
    )
    found = re.search(r"has about (\d+) of (\d+) train rows, under 200", message)
    assert found is not None
    assert int(found[1]) == pytest.approx(0.6 * 20_000 / 5 * 0.015, abs=25)
    assert int(found[2]) == pytest.approx(12_000, rel=0.05)


def test_rows_that_a_run_would_set_aside_are_set_aside_in_the_profile_too(tmp_path: Path) -> None:
    """What the complaint about a missing time advises must work: the plan of a run is made from this profile."""
    data = clean()
    data["when"] = np.arange("2024-01-01", "2025-08-23", dtype="datetime64[D]")[:600]
    data["when"][::50] = np.datetime64("NaT")
    expect = {"when": "not_null", "x": {"median": {"min": 5}}}
    with pytest.raises(DataError, match="when is missing in 12 rows"):
        profiled(pa.table(data), tmp_path, time="when")
    result = profiled(pa.table(data), tmp_path, time="when", expect=expect, bad_rows="quarantine")
    assert sum(result.num_split_rows.values()) == 588
    found = {finding.column: finding.message for finding in result.findings}
    assert found["when"].endswith("they are quarantined.")
    assert found["x"].endswith("not 5..; a run stops here.")
    with pytest.raises(DataError, match=r"data.expect.x = median 5.. is broken by the whole column"):
        spec = DataSpec(source="t.parquet", target="y", time="when", expect=expect, bad_rows="quarantine")
        profile(spec, base=tmp_path, is_lenient=False)
