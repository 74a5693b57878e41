"""Sources over HTTP, from a real server on loopback."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlcluster.data import DatasetSnapshot, LocalEngine, SourceCache, prepare
from mlcluster.data.catalog import OpenSource, Shelf, open_named
from mlcluster.data.source import read_block
from mlcluster.errors import DataError
from mlcluster.spec import DataSpec, SourceSpec
from tests.data.data_tables import people, write_people
from tests.data.servers import Answer, HttpSite, http_site

CSV = b"n,word\n1,a\n2,b\n"


@pytest.fixture
def site() -> Iterator[HttpSite]:
    with http_site() as site:
        yield site


def opened(folder: Path, path: str, **asked: object) -> OpenSource:
    """Opened by a command of its own: with a cache that has asked nothing yet."""
    spec = SourceSpec.model_validate({"path": path, **asked})
    return open_named("it", spec, Shelf(base=folder, cache=SourceCache(folder / "cache")))


def rows(source: OpenSource) -> list[dict[str, object]]:
    return pa.concat_tables([read_block(b, source.source.schema) for b in source.source.blocks]).to_pylist()


def test_a_file_is_fetched_once_and_then_asked_after(tmp_path: Path, site: HttpSite) -> None:
    site.pages["/t.csv"] = Answer(CSV, headers={"ETag": '"1"', "Last-Modified": "Thu, 01 Jan 1970 00:20:00 GMT"})
    first, second = (opened(tmp_path, f"{site.url}/t.csv") for _ in range(2))
    assert rows(first) == rows(second) == [{"n": 1, "word": "a"}, {"n": 2, "word": "b"}]
    assert site.log == [("/t.csv", 200), ("/t.csv", 304)]
    assert first.record == second.record
    assert (first.record.kind, first.record.modified_at) == ("http", 1200.0)
    assert first.record.sha256 == hashlib.sha256(CSV).hexdigest()


@pytest.mark.parametrize("headers", [{"ETag": '"1"'}, {"Last-Modified": "Thu, 01 Jan 1970 00:00:01 GMT"}, {}])
def test_a_file_that_has_changed_is_fetched_again(tmp_path: Path, site: HttpSite, headers: dict[str, str]) -> None:
    site.pages["/t.csv"] = Answer(CSV, headers=headers)
    before = opened(tmp_path, f"{site.url}/t.csv")
    changed = {"ETag": '"2"', "Last-Modified": "Thu, 01 Jan 1970 00:00:02 GMT"}
    site.pages["/t.csv"] = Answer(b"n\n7\n", headers={name: changed[name] for name in headers})
    assert rows(opened(tmp_path, f"{site.url}/t.csv")) == [{"n": 7}]
    assert rows(before) == [{"n": 1, "word": "a"}, {"n": 2, "word": "b"}]  # blocks are read from what was fetched


def test_many_commands_at_once_fetch_it_once(tmp_path: Path, site: HttpSite) -> None:
    site.pages["/t.csv"] = Answer(CSV, headers={"ETag": '"1"'})
    with ThreadPoolExecutor(8) as pool:
        sources = list(pool.map(lambda _: opened(tmp_path, f"{site.url}/t.csv"), range(8)))
    assert [status for _, status in site.log] == [200, *[304] * 7]
    assert {str(rows(source)) for source in sources} == {"[{'n': 1, 'word': 'a'}, {'n': 2, 'word': 'b'}]"}
    assert [path.suffix for path in (tmp_path / "cache" / "content").iterdir()] == [".csv"]


def test_what_was_lost_from_the_cache_is_fetched_again(tmp_path: Path, site: HttpSite) -> None:
    site.pages["/t.csv"] = Answer(CSV, headers={"ETag": '"1"'})
    opened(tmp_path, f"{site.url}/t.csv")
    for path in (tmp_path / "cache" / "content").iterdir():
        path.unlink()
    assert len(rows(opened(tmp_path, f"{site.url}/t.csv"))) == 2
    assert [status for _, status in site.log] == [200, 200]


def test_one_command_asks_once(tmp_path: Path, site: HttpSite) -> None:
    site.pages["/t.csv"] = Answer(CSV)
    shelf = Shelf(base=tmp_path, cache=SourceCache(tmp_path / "cache"))
    for _ in range(3):
        open_named("it", SourceSpec(path=f"{site.url}/t.csv"), shelf)
    assert len(site.log) == 1


def test_the_type_that_the_server_gives_stands_in_for_a_suffix(tmp_path: Path, site: HttpSite) -> None:
    site.pages["/export"] = Answer(CSV, headers={"Content-Type": "text/csv; charset=utf-8"})
    assert len(rows(opened(tmp_path, f"{site.url}/export?year=2020"))) == 2
    site.pages["/page"] = Answer(b"<html>", headers={"Content-Type": "text/html"})
    with pytest.raises(DataError, match=r"its format is unknown: .* and it is text/html"):
        opened(tmp_path, f"{site.url}/page")


def test_a_parquet_file_keeps_its_row_groups_and_its_snapshot(tmp_path: Path, site: HttpSite) -> None:
    write_people(tmp_path)
    site.pages["/people.parquet"] = Answer((tmp_path / "people.parquet").read_bytes())
    snapshots: list[DatasetSnapshot] = []
    for source in (f"{site.url}/people.parquet", "people.parquet"):
        spec = DataSpec(source=source, target="rich", key="person")
        snapshots.append(prepare(spec, base=tmp_path, folder=tmp_path / "s", seed=0, engine=LocalEngine(1)))
    assert snapshots[0].digest == snapshots[1].digest
    assert [one["kind"] for one in snapshots[0].manifest["sources"]] == ["http"]


def test_a_redirect_is_followed_over_http_alone(tmp_path: Path, site: HttpSite) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_bytes(CSV)
    site.pages["/t.csv"] = Answer(CSV)
    site.pages["/moved.csv"] = Answer(status=302, headers={"Location": f"{site.url}/t.csv"})
    site.pages["/file.csv"] = Answer(status=302, headers={"Location": secret.as_uri()})
    site.pages["/round.csv"] = Answer(status=302, headers={"Location": f"{site.url}/round.csv"})
    assert len(rows(opened(tmp_path, f"{site.url}/moved.csv"))) == 2
    with pytest.raises(DataError, match=r"file://.* is not allowed"):
        opened(tmp_path, f"{site.url}/file.csv")
    site.pages["/ftp.csv"] = Answer(status=302, headers={"Location": "ftp://127.0.0.1/t.csv"})
    with pytest.raises(DataError, match="it redirects to ftp://, which is not followed"):
        opened(tmp_path, f"{site.url}/ftp.csv")
    with pytest.raises(DataError, match="redirect"):
        opened(tmp_path, f"{site.url}/round.csv")


def test_what_is_larger_than_allowed_is_given_up(tmp_path: Path, site: HttpSite) -> None:
    buffer = io.BytesIO()
    pq.write_table(people(20_000), buffer)
    site.pages["/t.parquet"] = Answer(buffer.getvalue())
    with pytest.raises(DataError, match=r"it is larger than max_mb = 0\.1"):
        opened(tmp_path, f"{site.url}/t.parquet", max_mb=0.1)
    assert opened(tmp_path, f"{site.url}/t.parquet", max_mb=10).record.num_rows == 20_000
    assert [path.suffix for path in (tmp_path / "cache" / "content").iterdir()] == [".parquet"]


def test_a_refused_file_is_not_kept(tmp_path: Path, site: HttpSite) -> None:
    site.pages["/t.csv"] = Answer(CSV)
    good = hashlib.sha256(CSV).hexdigest()
    assert len(rows(opened(tmp_path, f"{site.url}/t.csv", sha256=good))) == 2
    site.pages["/t.csv"] = Answer(b"n\n666\n")
    with pytest.raises(DataError, match=r"does not let in t\.csv, whose SHA-256 is"):
        opened(tmp_path, f"{site.url}/t.csv", sha256=good)
    assert [path.name for path in (tmp_path / "cache" / "content").iterdir()] == [f"{good}.csv"]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Answer(status=404), "404"),
        (Answer(status=500), "500"),
        (Answer(CSV, cut_to=5), "broke off after 5 of 15 bytes|IncompleteRead"),
        (Answer(b"a,b\n1\n"), "cannot be read"),
        (Answer(b""), "cannot be read"),
    ],
)
def test_what_a_server_does_not_give_is_one_error_with_its_key(
    tmp_path: Path, site: HttpSite, answer: Answer, problem: str
) -> None:
    site.pages["/t.csv"] = answer
    with pytest.raises(DataError, match=rf"^data\.sources\.it = {site.url}/t\.csv .*({problem})"):
        opened(tmp_path, f"{site.url}/t.csv")


def test_a_server_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be fetched \(.*refused.*\); check the URL"):
        opened(tmp_path, "http://127.0.0.1:9/t.csv")


def test_a_password_comes_from_the_environment_and_is_never_shown(
    tmp_path: Path, site: HttpSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORD", "hunter2")
    site.pages["/t.csv"] = Answer(status=401, headers={"WWW-Authenticate": 'Basic realm="it"'})
    address = site.url.replace("http://", "http://ann:${WORD}@")
    with pytest.raises(DataError, match="401") as caught:
        opened(tmp_path, f"{address}/t.csv?sig=abc")
    assert "hunter2" not in str(caught.value)
    assert "abc" not in str(caught.value)
    assert [one.get("Authorization") for one in site.seen] == ["Basic YW5uOmh1bnRlcjI="]
    site.pages["/t.csv"] = Answer(CSV)
    assert opened(tmp_path, f"{address}/t.csv").record.place == f"{site.url}/t.csv"
    site.pages["/away.csv"] = Answer(status=302, headers={"Location": f"{site.url}/t.csv"})
    assert len(rows(opened(tmp_path, f"{address}/away.csv"))) == 2
    assert [one.get("Authorization") is None for one in site.seen][-2:] == [False, True]
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if b"hunter2" in path.read_bytes()]
