from __future__ import annotations

import hashlib
import itertools
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from mlcluster.data import LocalEngine, SourceCache, prepare, profile
from mlcluster.data.catalog import CatalogFile, OpenSource, Shelf, open_main, open_named, stale_findings
from mlcluster.data.catalog.cache import write_rows
from mlcluster.data.source import read_block
from mlcluster.errors import DataError
from mlcluster.spec import DataSpec, SourceSpec
from tests.data.data_tables import people, write_people

DAY = 86400.0
TABLE = pa.table(
    {
        "n": [1, 2, None],
        "x": [0.5, None, -1.5],
        "word": ["a", None, "ü"],
        "yes": [True, False, None],
        "day": pa.array([0, 1, None], pa.date32()),
        "at": pa.array([0, None, 2], pa.timestamp("us", tz="UTC")),
        "many": [[1, 2], None, []],
    }
)


def opened(folder: Path, name: str = "it", **asked: object) -> OpenSource:
    return open_named(name, SourceSpec.model_validate(asked), Shelf(base=folder, cache=SourceCache(folder / "cache")))


def rows(source: OpenSource) -> list[dict[str, object]]:
    blocks = [read_block(block, source.source.schema) for block in source.source.blocks]
    return pa.concat_tables(blocks).to_pylist()


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl"])
def test_a_record_says_what_a_file_holds(tmp_path: Path, name: str) -> None:
    table = pa.table({"user_id": [1, 2, 3], "x": [0.5, 1.5, 2.5], "word": ["a", "b", "c"]})
    file = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(table, file)
    elif name.endswith("csv"):
        pyarrow.csv.write_csv(table, file)
    else:
        file.write_text("\n".join(json.dumps(row) for row in table.to_pylist()))
    os.utime(file, (1000.0, 1000.0))
    record = opened(tmp_path, path=name, owner="ann").record
    assert (record.kind, record.owner, record.num_rows, record.num_files) == ("file", "ann", 3, 1)
    assert [(column.name, column.type) for column in record.columns] == [
        ("user_id", "int64"),
        ("x", "double"),
        ("word", "string"),
    ]
    assert record.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (record.size_bytes, record.modified_at) == (file.stat().st_size, 1000.0)


def test_a_source_is_stale_when_it_is_older_than_it_may_be(tmp_path: Path) -> None:
    write_people(tmp_path)
    os.utime(tmp_path / "people.parquet", (10 * DAY, 10 * DAY))
    record = opened(tmp_path, "people", path="people.parquet", owner="ann", fresh_within="7d").record
    assert stale_findings((record,), now=17 * DAY) == []
    found = stale_findings((record,), now=18 * DAY)
    assert [finding.message for finding in found] == [
        "source people is stale: 8 d since its last change, where data.sources.people.fresh_within allows 7 d; ask ann."
    ]


@pytest.mark.parametrize(
    "times",
    [
        pa.array(["1970-01-02", None, "1970-01-03"]),
        pa.array([86400, 2 * 86400, 0]),
        pa.array([1, 2, None], pa.date32()),
        pa.array([2 * 86400 * 1000, 0, None], pa.timestamp("ms")),
    ],
)
def test_the_newest_event_counts_where_there_is_a_time_column(tmp_path: Path, times: pa.Array) -> None:
    pq.write_table(pa.table({"at": times}), tmp_path / "t.parquet", row_group_size=1)
    record = opened(tmp_path, path="t.parquet", time="at", fresh_within="1d").record
    assert record.newest_event_at == 2 * DAY
    assert record.is_stale(3 * DAY + 1)
    assert not record.is_stale(3 * DAY - 1)


def test_a_time_column_that_is_not_there_is_an_error_with_the_nearest(tmp_path: Path) -> None:
    pq.write_table(pa.table({"as_of": [1.0]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"^data\.sources\.it\.time = asof is no column of it; did you mean as_of\?"):
        opened(tmp_path, path="t.parquet", time="asof")


def test_only_a_listed_hash_is_let_in_and_the_rest_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("n\n1\n")
    good = hashlib.sha256(b"n\n1\n").hexdigest()
    assert rows(opened(tmp_path, path="t.csv", sha256=["0" * 64, good.upper()])) == [{"n": 1}]
    (tmp_path / "t.csv").write_bytes(b"\xff not even a table\x00")
    bad = hashlib.sha256(b"\xff not even a table\x00").hexdigest()
    with pytest.raises(DataError, match=r"does not let in t\.csv") as caught:
        opened(tmp_path, path="t.csv", sha256=good)
    assert good in str(caught.value)
    assert f"--set data.sources.it.sha256={bad}" in str(caught.value)


def test_one_file_among_many_that_is_not_listed_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(f"n\n{name}\n")
    first = hashlib.sha256(b"n\na\n").hexdigest()
    with pytest.raises(DataError, match=r"does not let in b\.csv"):
        opened(tmp_path, path="*.csv", sha256=first)


def test_a_variable_of_the_environment_is_filled_in_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_people(tmp_path)
    monkeypatch.setenv("WHERE", tmp_path.as_posix())
    record = opened(Path("elsewhere"), path="${WHERE}/people.parquet").record
    assert record.place == "${WHERE}/people.parquet"
    monkeypatch.delenv("WHERE")
    with pytest.raises(DataError, match=r"names the variable WHERE, which is not set; export WHERE"):
        opened(tmp_path, path="${WHERE}/people.parquet")


def test_the_hash_of_rows_is_that_of_their_values_however_they_arrive(tmp_path: Path) -> None:
    def hashed(table: pa.Table, batch_rows: int) -> str:
        batches = table.to_batches(max_chunksize=batch_rows)
        reader = pa.RecordBatchReader.from_batches(table.schema, batches)
        digest, num_rows = write_rows(reader, tmp_path / "t.parquet")
        assert num_rows == table.num_rows
        assert pq.read_table(tmp_path / "t.parquet").equals(table)
        return digest

    assert hashed(TABLE, 1) == hashed(TABLE, 3)
    large = pa.table({"n": np.arange(150_000), "word": np.arange(150_000).astype(str)})
    assert hashed(large, 7_001) == hashed(large, 150_000)
    assert pq.ParquetFile(tmp_path / "t.parquet").num_row_groups == 3


@pytest.mark.parametrize("column", TABLE.column_names)
def test_the_hash_of_rows_tells_each_value_and_each_null(tmp_path: Path, column: str) -> None:
    def hashed(table: pa.Table) -> str:
        return write_rows(pa.RecordBatchReader.from_batches(table.schema, table.to_batches()), tmp_path / "t.parquet")[
            0
        ]

    seen = {hashed(TABLE)}
    for order in ([1, 0, 2], [0, 1, 1], [0, 0, 2], [2, 1, 0]):
        changed = TABLE.set_column(TABLE.column_names.index(column), column, TABLE.column(column).take(pa.array(order)))
        if changed.equals(TABLE):
            continue
        seen.add(hashed(changed))
    assert len(seen) >= 4
    renamed = TABLE.rename_columns([f"{name}2" if name == column else name for name in TABLE.column_names])
    assert hashed(renamed) not in seen


def test_an_edited_file_is_a_new_version(tmp_path: Path) -> None:
    file = CatalogFile(tmp_path / "catalog.jsonl")
    for at, text in enumerate(("n\n1\n", "n\n1\n", "n\n1\n2\n", "n,m\n1,x\n2,y\n", "n\n1\n")):
        (tmp_path / "t.csv").write_text(text)
        file.note([opened(tmp_path, path="t.csv").record], now=float(at))
    versions = file.versions("it")
    assert [(one.number, one.seen_at, one.num_rows) for one in versions] == [(1, 0, 1), (2, 2, 2), (3, 3, 2), (4, 4, 1)]
    changes = [later.change_from(earlier) for earlier, later in itertools.pairwise(versions)]
    assert changes == ["+1 rows", "new column m", "-1 rows, without column m"]


def test_versions_survive_a_line_that_was_cut_short(tmp_path: Path) -> None:
    write_people(tmp_path)
    record = opened(tmp_path, path="people.parquet").record
    file = CatalogFile(tmp_path / "catalog.jsonl")
    file.note([record], now=1.0)
    with file.path.open("a") as stream:
        stream.write('{"name": "it", "sha2')
    write_people(tmp_path, seed=1)
    file.note([opened(tmp_path, path="people.parquet").record], now=2.0)
    assert [one.seen_at for one in file.versions()] == [1.0, 2.0]


def write_delta(folder: Path, table: pa.Table, **more: object) -> None:
    deltalake = pytest.importorskip("deltalake", reason="needs mlcluster[delta]")
    deltalake.write_deltalake(str(folder), table, **more)


def test_a_delta_table_is_read_at_its_current_version_or_at_the_one_that_is_named(tmp_path: Path) -> None:
    write_delta(tmp_path / "d", pa.table({"n": [1, 2], "part": ["a", "b"]}), partition_by=["part"])
    write_delta(tmp_path / "d", pa.table({"n": [3], "part": ["b"]}), mode="append")
    write_delta(tmp_path / "d", pa.table({"n": [9], "part": ["c"]}), mode="overwrite")
    current = opened(tmp_path, path="d")
    assert (current.record.kind, current.record.version, rows(current)) == ("delta", 2, [{"n": 9, "part": "c"}])
    for asked in ({"path": "d@1"}, {"path": "d", "version": 1}):
        pinned = opened(tmp_path, **asked)
        assert pinned.record.version == 1
        assert sorted(map(str, rows(pinned))) == [
            f"{{'n': {n}, 'part': '{part}'}}" for n, part in zip((1, 2, 3), "abb", strict=True)
        ]
        assert pinned.record.sha256 != current.record.sha256
    assert current.record.modified_at == pytest.approx((tmp_path / "d").stat().st_mtime, abs=60)


def test_a_delta_table_has_the_same_hash_each_time(tmp_path: Path) -> None:
    write_delta(tmp_path / "d", people(500))
    write_delta(tmp_path / "d", people(500, seed=1), mode="append")
    records = [opened(tmp_path / str(attempt), path=str(tmp_path / "d")).record for attempt in range(2)]
    assert records[0] == records[1]


def test_a_version_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    write_delta(tmp_path / "d", pa.table({"n": [1]}))
    with pytest.raises(DataError, match=r"^data\.sources\.it = d has no Delta table at version 7"):
        opened(tmp_path, path="d@7")


def test_the_version_of_a_delta_table_is_in_the_manifest(tmp_path: Path) -> None:
    write_delta(tmp_path / "d", people(400))
    spec = DataSpec(source="d", target="rich", key="person")
    snapshot = prepare(spec, base=tmp_path, folder=tmp_path / "s", seed=0, engine=LocalEngine(1))
    assert [(one["kind"], one["version"]) for one in snapshot.manifest["sources"]] == [("delta", 0)]


def test_a_source_by_name_gives_the_snapshot_of_its_path(tmp_path: Path) -> None:
    write_people(tmp_path)
    named = DataSpec.model_validate(
        {"source": "folk", "sources": {"folk": "people.parquet"}, "target": "rich", "key": "person"}
    )
    plain = DataSpec(source="people.parquet", target="rich", key="person")
    digests = []
    for spec in (named, plain):
        snapshot = prepare(spec, base=tmp_path, folder=tmp_path / "s", seed=0, engine=LocalEngine(1))
        digests.append(snapshot.digest)
    assert digests[0] == digests[1]
    found = profile(named, base=tmp_path)
    assert [(one.name, one.place) for one in found.sources] == [("folk", "people.parquet")]


def test_a_name_that_is_no_source_is_an_error_with_the_nearest(tmp_path: Path) -> None:
    spec = DataSpec.model_validate({"source": "peple", "sources": {"people": "people.parquet"}, "target": "rich"})
    with pytest.raises(DataError, match=r"^data\.source = peple is no source and no file; did you mean people\?"):
        open_main(spec, Shelf(base=tmp_path, cache=SourceCache(tmp_path / "cache")))


def test_the_pages_of_a_profile_show_sources_and_joins_as_text(tmp_path: Path) -> None:
    write_people(tmp_path)
    pq.write_table(pa.table({"person": range(100), "score": np.arange(100.0)}), tmp_path / "more.parquet")
    spec = DataSpec.model_validate(
        {
            "source": "folk",
            "sources": {"folk": {"path": "people.parquet", "owner": "<b>ann</b>"}, "more": "more.parquet"},
            "joins": [{"source": "more", "on": "person"}],
            "target": "rich",
            "key": "person",
        }
    )
    found = profile(spec, base=tmp_path)
    assert "source: more (file, 100 rows, " in found.summary()
    page = found.to_html()
    assert "&lt;b&gt;ann&lt;/b&gt;" in page
    assert f"more on person: {found.joins[0].match_rate:.1%} matched" in page
    assert json.loads(json.dumps(found.to_json()))["joins"][0]["rows_in"] == 400
