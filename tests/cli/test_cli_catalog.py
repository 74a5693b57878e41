"""`data ls`, `show` and `find`, and what plan, profile and run say of sources and joins."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.cli.projects import make_project, run_here

TEXT = """
    project: demo
    data:
      source: visits
      target: answer
      exclude: [user_id, where]
      sources:
        visits: {path: data/table.parquet, owner: ann}
        houses:
          path: data/houses.csv
          owner: bob
          description: from the land registry
          fresh_within: 7d
        people: {url: "sqlite:///data/own.db", sql: SELECT * FROM people ORDER BY user_id}
      joins:
        - source: houses
          on: {left: where, right: address}
          normalise: [case, abbreviations]
          min_match: 0.9
        - {source: people, on: user_id, min_match: 1}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Visits in Parquet, houses in CSV a day old, people in SQLite; 95 % of the visits are to a known house."""
    pytest.importorskip("adbc_driver_sqlite", reason="needs mlcluster[sql]")
    rng = np.random.default_rng(0)
    number = np.arange(200) % 20
    visits = pa.table(
        {
            "user_id": np.arange(200),
            "where": [f"{n} MAIN ST." if n % 2 else f"{n} Main Street" for n in number],
            "x": rng.normal(size=200),
            "answer": np.where(rng.random(200) > 0.5, "yes", "no"),
        }
    )
    folder = make_project(tmp_path / "demo", TEXT, visits)
    houses = pa.table({"address": [f"{n} Main Street" for n in range(19)], "value": rng.normal(size=19)})
    pyarrow.csv.write_csv(houses, folder / "data" / "houses.csv")
    set_age(folder / "data" / "houses.csv", days=1)
    with sqlite3.connect(folder / "data" / "own.db") as connection:
        connection.execute("CREATE TABLE people (user_id INTEGER, age REAL)")
        connection.executemany("INSERT INTO people VALUES (?, ?)", [(n, float(n % 70)) for n in range(200)])
    connection.close()
    return folder


def set_age(path: Path, *, days: float) -> None:
    at = time.time() - days * 86400
    os.utime(path, (at, at))


def test_ls_lists_each_source_with_its_owner_and_hash(project: Path) -> None:
    listed = run_here(project, "data", "ls", "--json").json["sources"]
    houses = (project / "data" / "houses.csv").read_bytes()
    assert [(one["name"], one["kind"], one["num_rows"], len(one["columns"]), one["owner"]) for one in listed] == [
        ("visits", "file", 200, 4, "ann"),
        ("houses", "file", 19, 2, "bob"),
        ("people", "sql", 200, 2, None),
    ]
    assert listed[1]["sha256"] == hashlib.sha256(houses).hexdigest()
    assert listed[1]["age_seconds"] == pytest.approx(86400, abs=300)
    shown = run_here(project, "data", "ls")
    assert (shown.code, len(shown.stdout.splitlines()), "stale" in shown.stdout) == (0, 4, False)


def test_a_stale_source_is_flagged_wherever_it_is_named(project: Path) -> None:
    set_age(project / "data" / "houses.csv", days=8)
    assert [one["is_stale"] for one in run_here(project, "data", "ls", "--json").json["sources"]] == [
        False,
        True,
        False,
    ]
    assert "! houses is stale: it may be 7 d old" in run_here(project, "data", "ls").stdout
    assert "STALE: may be 7 d old" in run_here(project, "data", "show", "houses").stdout
    kinds = [one["kind"] for one in run_here(project, "data", "profile", "--json").json["findings"]]
    assert kinds[0] == "stale_source"
    warning = "warning: source houses is stale: 8 d since its last change"
    assert warning in run_here(project, "plan").stderr
    assert warning in run_here(project, "run", "--dry-run").stderr


def test_show_tells_columns_versions_joins_and_rows(project: Path) -> None:
    run_here(project, "data", "ls")
    houses = project / "data" / "houses.csv"
    houses.write_text(houses.read_text() + '"19 Main Street",0.5\n')
    shown = run_here(project, "data", "show", "houses", "--json").json
    assert [(one["number"], one["num_rows"]) for one in shown["versions"]] == [(1, 19), (2, 20)]
    assert shown["first_rows"][0]["address"] == "0 Main Street"
    assert "100.0% of 200 rows found their key (100 of them once normalised)" in shown["joins"][0]
    page = run_here(project, "data", "show", "houses").stdout
    for words in (
        "from the land registry",
        "address  string",
        "first seen",
        "+1 rows",
        "join with houses on where = address",
    ):
        assert words in page
    assert len(run_here(project, "data", "show", "houses", "--json").json["versions"]) == 2  # looking is no new version


def test_find_names_the_sources_that_hold_a_column(project: Path) -> None:
    found = run_here(project, "data", "find", "USER_ID", "--json")
    assert [one["source"] for one in found.json["sources"]] == ["visits", "people"]
    assert found.code == 0
    assert run_here(project, "data", "find", "user_id").stdout == "visits  user_id  int64\npeople  user_id  int64\n"


def test_find_offers_the_nearest_where_no_source_holds_it(project: Path) -> None:
    found = run_here(project, "data", "find", "userid")
    assert (found.code, found.stdout) == (
        2,
        "no source holds userid; the nearest are user_id (visits), user_id (people)\n",
    )
    assert run_here(project, "data", "find", "zzz").stdout == "no source holds zzz\n"


def test_a_source_that_cannot_be_read_does_not_hide_the_others(project: Path) -> None:
    (project / "data" / "own.db").unlink()
    listed = run_here(project, "data", "ls")
    assert listed.code == 0
    assert "! data.sources.people = sqlite:///data/own.db names a file that is not there" in listed.stdout
    assert [one["problem"] is None for one in run_here(project, "data", "ls", "--json").json["sources"]] == [
        True,
        True,
        False,
    ]
    shown = run_here(project, "data", "show", "people")
    assert shown.code == 2
    assert shown.complaint.startswith("mlcluster.yaml:13: data.sources.people = sqlite:///data/own.db names a file")


def test_a_name_that_is_no_source_is_an_error_with_the_nearest(project: Path) -> None:
    shown = run_here(project, "data", "show", "hauses")
    assert (shown.code, shown.complaint) == (2, "NAME = hauses is no source of this project; did you mean houses?")


def test_a_path_is_listed_under_its_own_name(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "demo", "project: demo\ndata: {source: data/table.parquet, target: answer}\n")
    assert [one["name"] for one in run_here(folder, "data", "ls", "--json").json["sources"]] == ["table"]
    assert "place    data/table.parquet" in run_here(folder, "data", "show", "table").stdout


def test_the_resolved_file_says_the_same(project: Path) -> None:
    before = run_here(project, "data", "profile").stdout
    (project / "mlcluster.yaml").write_text(run_here(project, "config").stdout)
    assert run_here(project, "data", "profile").stdout == before


def test_the_profile_has_the_joined_columns_and_the_report(project: Path) -> None:
    found = run_here(project, "data", "profile", "--json").json
    assert [column["name"] for column in found["columns"]] == ["user_id", "where", "x", "answer", "value", "age"]
    assert [(one["source"], one["match_rate"], one["rows_out"]) for one in found["joins"]] == [
        ("houses", 0.95, 200),
        ("people", 1.0, 200),
    ]
    assert "join with houses on where = address: 95.0% of 200 rows" in run_here(project, "data", "profile").stdout
    run_here(project, "data", "profile", "--html", "page.html")
    assert "houses on where = address: 95.0% matched, 10 rows without a match" in (project / "page.html").read_text()


def test_a_run_that_matches_too_little_fails_before_anything_is_spent(project: Path) -> None:
    run = run_here(
        project, "run", "--set", "data.joins=[{source: houses, on: {left: where, right: address}, min_match: 0.9}]"
    )
    assert run.code == 2
    assert "data.joins = houses is below its min_match of 0.9" in run.complaint
    assert "(1 MAIN ST., 3 MAIN ST., " in run.complaint
    assert not (project / ".mlcluster" / "runs").exists()


def test_a_run_that_multiplies_its_rows_fails(project: Path) -> None:
    pq.write_table(pa.table({"user_id": [3] * 50, "score": np.arange(50.0)}), project / "data" / "many.parquet")
    words = ("data.sources.many=data/many.parquet", "data.joins=[{source: many, on: user_id}]")
    run = run_here(project, "plan", "--set", words[0], "--set", words[1])
    assert run.code == 2
    assert "data.joins = many is above its max_fan_out of 1: 3 finds 50 rows of many" in run.complaint


def test_the_command_that_a_refusal_names_lets_the_file_in(project: Path) -> None:
    allowed = ("--set", f"data.sources.houses.sha256={'ab' * 32}")
    refused = run_here(project, "data", "show", "houses", *allowed)
    assert refused.code == 2
    command = refused.complaint.partition("give it to one command: ")[2].rstrip(".").split()
    assert command[0] == "--set"
    assert run_here(project, "data", "show", "houses", *allowed, *command).code == 0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            ("fresh_within: 7d", "fresh_within: a week"),
            "mlcluster.yaml:12: data.sources.houses.fresh_within = a week is no time span; write it like 30m, 12h, ",
        ),
        (
            ("path: data/houses.csv", "path: s3://me:hunter2@bucket/houses.csv"),
            "mlcluster.yaml:9: data.sources.houses.path = s3://bucket/houses.csv holds a password; set a variable ",
        ),
        (
            ("path: data/houses.csv", "pth: data/houses.csv"),
            "mlcluster.yaml:9: data.sources.houses.pth = data/houses.csv is not a key; did you mean path.",
        ),
        (
            ("source: people, on", "source: peple, on"),
            "names 'peple', which is no source; did you mean people.",
        ),
        (("[case, abbreviations]", "[case, abreviations]"), "is not allowed; did you mean abbreviations."),
    ],
)
def test_what_is_wrong_in_sources_and_joins_is_one_line(project: Path, change: tuple[str, str], complaint: str) -> None:
    file = project / "mlcluster.yaml"
    file.write_text(file.read_text().replace(*change))
    found = run_here(project, "data", "ls")
    assert found.code == 2
    assert complaint in found.stderr
    assert "hunter2" not in found.stderr
