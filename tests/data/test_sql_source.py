"""Sources that are queries: of SQLite, and of a real PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlcluster.data import LocalEngine, SourceCache, prepare
from mlcluster.data.catalog import OpenSource, Shelf, open_named
from mlcluster.data.gather import gather
from mlcluster.data.source import read_block
from mlcluster.errors import DataError
from mlcluster.spec import DataSpec, SourceSpec
from tests.data.data_tables import write_people
from tests.data.servers import postgres

adbc = pytest.importorskip("adbc_driver_sqlite.dbapi", reason="needs mlcluster[sql]")


def opened(folder: Path, url: str, sql: str, **asked: object) -> OpenSource:
    spec = SourceSpec.model_validate({"url": url, "sql": sql, **asked})
    return open_named("it", spec, Shelf(base=folder, cache=SourceCache(folder / "cache")))


def rows(source: OpenSource) -> list[dict[str, object]]:
    return pa.concat_tables([read_block(b, source.source.schema) for b in source.source.blocks]).to_pylist()


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    with sqlite3.connect(tmp_path / "own.db") as connection:
        connection.execute("CREATE TABLE owners (id INTEGER, age REAL, name TEXT)")
        connection.executemany("INSERT INTO owners VALUES (?, ?, ?)", [(1, 40.5, "ann"), (2, None, None)])
    connection.close()
    return "sqlite:///own.db"


def test_the_rows_of_a_query_are_a_source(tmp_path: Path, sqlite: str) -> None:
    source = opened(tmp_path, sqlite, "SELECT id, age, name FROM owners ORDER BY id DESC")
    assert rows(source) == [{"id": 2, "age": None, "name": None}, {"id": 1, "age": 40.5, "name": "ann"}]
    assert (source.record.kind, source.record.num_rows) == ("sql", 2)
    assert source.record.place == "sqlite:///own.db: SELECT id, age, name FROM owners ORDER BY id DESC"
    assert [column.type for column in source.record.columns] == ["int64", "double", "string"]


def test_the_hash_follows_the_rows(tmp_path: Path, sqlite: str) -> None:
    sql = "SELECT * FROM owners ORDER BY id"
    before = opened(tmp_path, sqlite, sql)
    assert opened(tmp_path, sqlite, sql).record == before.record
    with sqlite3.connect(tmp_path / "own.db") as connection:
        connection.execute("UPDATE owners SET age = 41 WHERE id = 2")
    connection.close()
    after = opened(tmp_path, sqlite, sql)
    assert after.record.sha256 != before.record.sha256
    assert (rows(before)[1]["age"], rows(after)[1]["age"]) == (None, 41.0)
    with pytest.raises(DataError, match=r"^data\.sources\.it\.sha256 = .* does not let in it, whose SHA-256 is"):
        opened(tmp_path, sqlite, sql, sha256=before.record.sha256)


def test_a_query_cannot_write(tmp_path: Path, sqlite: str) -> None:
    with pytest.raises(DataError, match="readonly"):
        opened(tmp_path, sqlite, "DELETE FROM owners RETURNING id")
    assert len(rows(opened(tmp_path, sqlite, "SELECT * FROM owners"))) == 2


def test_a_query_that_says_no_order_is_remarked_upon(tmp_path: Path, sqlite: str) -> None:
    def findings(sql: str) -> list[str]:
        asked = {"it": {"url": sqlite, "sql": sql}}
        spec = DataSpec.model_validate({"source": "it", "sources": asked, "target": "age"})
        return [finding.kind for finding in gather(spec, base=tmp_path).findings]

    assert findings("SELECT * FROM owners") == ["unordered_query"]
    assert findings("SELECT * FROM owners Order  By id") == []


@pytest.mark.parametrize(
    ("url", "sql", "problem"),
    [
        ("sqlite:///own.db", "SELECT size FROM owners", "no such column: size"),
        ("sqlite:///own.db", "SELEC 1", "syntax error"),
        ("sqlite:///own.db", "SELECT * FROM owners WHERE id > 9", "holds no rows"),
        ("sqlite:///other.db", "SELECT 1", "names a file that is not there"),
        ("mysql://host/base", "SELECT 1", "is no data base that can be read; use sqlite:///file.db or postgresql://"),
        ("postgresql://nobody@127.0.0.1:9/none?connect_timeout=2", "SELECT 1", "refused"),
    ],
)
def test_what_a_data_base_does_not_give_is_one_error_with_its_key(
    tmp_path: Path, sqlite: str, url: str, sql: str, problem: str
) -> None:
    with pytest.raises(DataError, match=rf"^data\.sources\.it = \w+://[^ ]* .*{problem}"):
        opened(tmp_path, url, sql)
    assert not (tmp_path / "other.db").exists()


def test_a_column_of_mixed_types_is_an_error_and_no_guess(tmp_path: Path, sqlite: str) -> None:
    with sqlite3.connect(tmp_path / "own.db") as connection:
        connection.executemany("INSERT INTO owners VALUES (?, ?, ?)", [(n, 1.0, "x") for n in range(70_000)])
        connection.execute("INSERT INTO owners VALUES ('three', 3, 'c')")
    connection.close()
    with pytest.raises(DataError, match="cannot be read"):
        opened(tmp_path, sqlite, "SELECT id FROM owners")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "open sesame")


def execute(url: str, sql: str) -> None:
    import adbc_driver_postgresql.dbapi

    with adbc_driver_postgresql.dbapi.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        connection.commit()


@pytest.mark.slow
def test_postgresql_gives_its_rows_in_types_that_models_know(tmp_path: Path, server: str, password: None) -> None:
    sql = (
        "SELECT 1 AS n, 1.5::numeric AS amount, NULL::numeric AS nothing, true AS yes, 'é' AS word, "
        "DATE '2020-02-29' AS d, '7e2fe2e8-a027-4277-a24a-a94ff16b37cd'::uuid AS id, "
        "'{\"a\": 1}'::jsonb AS j, 'x'::char(2) AS c"
    )
    source = opened(tmp_path, server, sql)
    types = {column.name: column.type for column in source.record.columns}
    assert types == {
        "n": "int32",
        "amount": "double",
        "nothing": "double",
        "yes": "bool",
        "word": "string",
        "d": "date32[day]",
        "id": "string",
        "j": "string",
        "c": "string",
    }
    row = rows(source)[0]
    assert (row["amount"], row["nothing"], row["word"]) == (1.5, None, "é")
    assert row["id"] == "7e2fe2e8-a027-4277-a24a-a94ff16b37cd"


@pytest.mark.slow
def test_a_snapshot_of_postgresql_has_the_rows_of_a_snapshot_of_the_same_file(
    tmp_path: Path, server: str, password: None
) -> None:
    import adbc_driver_postgresql.dbapi

    write_people(tmp_path, 2_000)
    table = pq.read_table(tmp_path / "people.parquet")
    with adbc_driver_postgresql.dbapi.connect(server) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("people", table.append_column("row", pa.array(range(2_000))), mode="replace")
        connection.commit()
    asked = {"url": server, "sql": 'SELECT age, hours, job, member, rich, person FROM people ORDER BY "row"'}
    parts: list[dict[str, Any]] = []
    for source in (asked, "people.parquet"):
        spec = DataSpec.model_validate(
            {"source": "folk", "sources": {"folk": source}, "target": "rich", "key": "person"}
        )
        snapshot = prepare(spec, base=tmp_path, folder=tmp_path / "s", seed=0, engine=LocalEngine(1))
        parts.append({split: snapshot.table(split).to_pydict() for split in ("train", "validation", "test")})
        parts[-1]["transforms"] = snapshot.manifest["identity"]["transforms"]
    assert str(parts[0]) == str(parts[1])  # as text, for NaN is not equal to itself


@pytest.mark.slow
def test_a_query_of_postgresql_cannot_write(tmp_path: Path, server: str, password: None) -> None:
    execute(server, "DROP TABLE IF EXISTS t; ")
    execute(server, "CREATE TABLE t AS SELECT 1 AS n")
    with pytest.raises(DataError, match="read-only transaction"):
        opened(tmp_path, server, "WITH gone AS (DELETE FROM t RETURNING n) SELECT * FROM gone")
    assert rows(opened(tmp_path, server, "SELECT n FROM t")) == [{"n": 1}]


@pytest.mark.slow
def test_the_password_of_postgresql_is_never_shown(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("WORD", quote("open sesame"))
    address = server.replace("reader@", "reader:${WORD}@")
    assert rows(opened(tmp_path, address, "SELECT 1 AS n")) == [{"n": 1}]
    monkeypatch.setenv("WORD", "hunter2")
    with pytest.raises(DataError, match="password authentication failed") as caught:
        opened(tmp_path, address, "SELECT 2 AS n")
    assert "hunter2" not in str(caught.value)
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert not [path for path in kept if b"sesame" in path.read_bytes()]


@pytest.mark.slow
def test_the_newest_event_of_a_query_tells_its_age(tmp_path: Path, server: str, password: None) -> None:
    sql = "SELECT TIMESTAMPTZ '1970-01-01 01:00:00+00' AS at"
    record = opened(tmp_path, server, sql, time="at", fresh_within="1h").record
    assert (record.newest_event_at, record.is_stale(7201.0), record.is_stale(7199.0)) == (3600.0, True, False)
