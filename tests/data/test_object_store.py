"""Sources in an object store: a real server that speaks S3, on loopback."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from mlcluster.data import DatasetSnapshot, LocalEngine, SourceCache, prepare
from mlcluster.data.catalog import Shelf, open_named
from mlcluster.errors import DataError
from mlcluster.spec import DataSpec, SourceSpec
from tests.data.data_tables import people, write_people
from tests.data.servers import s3

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lake() -> Iterator[Callable[[str], str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "me")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with s3() as address:
            yield address


def put(address: str, content: bytes) -> None:
    filesystem, path = fs.FileSystem.from_uri(address)
    with filesystem.open_output_stream(path) as stream:
        stream.write(content)


def snapshot_of(folder: Path, source: str) -> DatasetSnapshot:
    spec = DataSpec(source=source, target="rich", key="person")
    return prepare(spec, base=folder, folder=folder / "s", seed=0, engine=LocalEngine(2))


def test_a_file_in_an_object_store_gives_the_snapshot_of_the_same_file_here(
    tmp_path: Path, lake: Callable[[str], str]
) -> None:
    write_people(tmp_path)
    put(lake("one/people.parquet"), (tmp_path / "people.parquet").read_bytes())
    there, here = snapshot_of(tmp_path, lake("one/people.parquet")), snapshot_of(tmp_path, "people.parquet")
    assert there.digest == here.digest
    assert there.manifest["sources"][0]["modified_at"] is not None


def test_a_folder_and_a_glob_are_read_in_the_order_of_their_names(tmp_path: Path, lake: Callable[[str], str]) -> None:
    for part in range(3):
        pq.write_table(people(200, seed=part), tmp_path / f"part-{part}.parquet")
        put(lake(f"many/part-{part}.parquet"), (tmp_path / f"part-{part}.parquet").read_bytes())
    here = snapshot_of(tmp_path, "part-*.parquet")
    assert snapshot_of(tmp_path, lake("many")).digest == here.digest
    assert snapshot_of(tmp_path, lake("many/part-?.parquet")).digest == here.digest


def test_only_a_listed_hash_is_let_in(tmp_path: Path, lake: Callable[[str], str]) -> None:
    put(lake("t.csv"), b"n\n1\n")
    shelf = Shelf(base=tmp_path, cache=SourceCache(tmp_path / "cache"))
    good = hashlib.sha256(b"n\n1\n").hexdigest()
    spec = SourceSpec.model_validate({"path": lake("t.csv"), "sha256": good})
    assert open_named("it", spec, shelf).record.num_rows == 1
    put(lake("t.csv"), b"n\n2\n")
    with pytest.raises(DataError, match=r"does not let in t\.csv"):
        open_named("it", spec, shelf)


def test_a_delta_table_in_an_object_store_is_read_at_its_version(
    tmp_path: Path, lake: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deltalake = pytest.importorskip("deltalake", reason="needs mlcluster[delta]")
    for version in range(2):
        deltalake.write_deltalake(str(tmp_path / "t"), people(300, seed=version), mode="overwrite")
    filesystem, path = fs.FileSystem.from_uri(lake("table"))
    fs.copy_files(str(tmp_path / "t"), path, destination_filesystem=filesystem)
    assert snapshot_of(tmp_path, lake("table")).digest == snapshot_of(tmp_path, "t").digest
    monkeypatch.setenv("WORD", "secret")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    shelf = Shelf(base=tmp_path, cache=SourceCache(tmp_path / "cache"))
    old = SourceSpec.model_validate({"path": lake("table").replace("s3://", "s3://me:${WORD}@"), "version": 0})
    records = [open_named("it", spec, shelf).record for spec in (old, SourceSpec(path="t@0"))]
    assert records[0].sha256 == records[1].sha256
    assert "secret" not in str(records)


def test_what_is_not_there_is_an_error_without_the_keys(
    tmp_path: Path, lake: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        DataError, match=r"^data\.source = s3://lake/absent\.parquet\?endpoint_override=.* matches no file"
    ):
        snapshot_of(tmp_path, lake("absent.parquet"))
    monkeypatch.setenv("WORD", "hunter2")
    with pytest.raises(DataError, match=r"^data\.source = s3://lake/x\.csv") as caught:
        snapshot_of(tmp_path, lake("x.csv").replace("s3://", "s3://me:${WORD}@"))
    assert "hunter2" not in str(caught.value)
