from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from blake3 import blake3

from mlcluster.data.source import Source, read_block, read_source
from mlcluster.errors import DataError

TABLE = pa.table({"n": [1, 2, 3], "word": ["a", None, "c"], "x": [0.5, 1.5, None]})


def rows(source: Source) -> list[dict[str, object]]:
    return pa.concat_tables([read_block(block, source.schema) for block in source.blocks]).to_pylist()


def test_a_parquet_file_has_a_block_for_each_row_group(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "t.parquet", row_group_size=2)
    source = read_source("t.parquet", base=tmp_path)
    assert [block.row_group for block in source.blocks] == [0, 1]
    assert rows(source) == TABLE.to_pylist()
    assert (source.name, source.label) == ("t", "t.parquet")


def test_csv_and_json_hold_the_same_rows(tmp_path: Path) -> None:
    pyarrow.csv.write_csv(TABLE, tmp_path / "t.csv")
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row) for row in TABLE.to_pylist()))
    (tmp_path / "t.json").write_text(json.dumps(TABLE.to_pylist()))
    (tmp_path / "z.csv.gz").write_bytes(gzip.compress((tmp_path / "t.csv").read_bytes()))
    for name in ("t.csv", "t.jsonl", "t.json", "z.csv.gz"):
        assert rows(read_source(name, base=tmp_path)) == TABLE.to_pylist(), name


def test_tabs_part_the_columns_of_a_tsv_file(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("n\tword\n1\ta,b\n")
    assert rows(read_source("t.tsv", base=tmp_path)) == [{"n": 1, "word": "a,b"}]


def test_files_of_one_source_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "year=2020"
    folder.mkdir()
    for name in ("b", "a", "_hidden"):
        pq.write_table(pa.table({"name": [name]}), folder / f"{name}.parquet")
    for text in ("year=2020", "year=2020/*.parquet", "year=*/?.parquet", "**/[ab].parquet", str(tmp_path)):
        source = read_source(text, base=tmp_path)
        assert [row["name"] for row in rows(source)] == ["a", "b"], text
        assert [file.name for file in source.files] == ["a.parquet", "b.parquet"]


def test_a_file_uri_is_a_path(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "t.parquet")
    assert rows(read_source(f"file://{tmp_path}/t.parquet", base=Path("elsewhere"))) == TABLE.to_pylist()


def test_a_column_that_one_file_lacks_is_missing_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n,x\n1,2\n")
    (tmp_path / "b.csv").write_text("n,x,y\n2,2.5,hi\n")
    assert rows(read_source("*.csv", base=tmp_path)) == [{"n": 1, "x": 2.0, "y": None}, {"n": 2, "x": 2.5, "y": "hi"}]


def test_only_the_wanted_columns_are_read(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "t.parquet")
    source = read_source("t.parquet", base=tmp_path)
    assert read_block(source.blocks[0], source.schema, ["x", "n"]).column_names == ["x", "n"]


def test_dictionary_columns_are_read_plain(tmp_path: Path) -> None:
    coded = TABLE.set_column(1, "word", TABLE.column("word").dictionary_encode())
    pq.write_table(coded, tmp_path / "t.parquet")
    source = read_source("t.parquet", base=tmp_path)
    assert source.schema.field("word").type == pa.string()
    assert rows(source) == TABLE.to_pylist()


def test_every_file_is_known_by_its_hash(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n\n1\n")
    before = read_source("a.csv", base=tmp_path).files[0]
    (tmp_path / "a.csv").write_text("n\n2\n")
    after = read_source("a.csv", base=tmp_path).files[0]
    assert (before.size_bytes, after.size_bytes) == (4, 4)
    assert before.sha256 != after.sha256


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("absent.parquet", None, "matches no file"),
        ("absent/*.csv", None, "matches no file"),
        ("t.xlsx", b"x", "has an unknown format; give a file that ends in .parquet"),
        ("t.parquet", b"not parquet", "cannot be read"),
        ("t.parquet", b"", "cannot be read"),
        ("t.csv", b"", "cannot be read"),
        ("t.csv", b"a,b\n", "holds no rows"),
        ("t.csv", b"a,b\n1\n", "cannot be read"),
        ("t.csv", b"a,a\n1,2\n", "has the column 'a' twice"),
        ("t.json", b"[1, 2]", "cannot be read"),
        ("t.json", b"{", "cannot be read"),
        ("t.csv", b"\xff\xfe\x00", "cannot be read|holds no rows"),
    ],
)
def test_what_cannot_be_read_is_one_error_with_its_key(
    tmp_path: Path, name: str, content: bytes | None, problem: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"^data\.source = .*{name[:3]}.*({problem})"):
        read_source(name, base=tmp_path)


def test_an_empty_table_has_no_rows(tmp_path: Path) -> None:
    pq.write_table(TABLE.slice(0, 0), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"data\.source = t.parquet holds no rows"):
        read_source("t.parquet", base=tmp_path)


def test_a_folder_of_mixed_formats_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n\n1\n")
    (tmp_path / "a.json").write_text('{"n": 1}')
    with pytest.raises(DataError, match="mixes formats"):
        read_source(".", base=tmp_path)


def test_files_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"n": ["one"]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="do not fit together"):
        read_source("*.parquet", base=tmp_path)


def test_a_file_that_vanishes_between_two_reads_is_an_error(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "t.parquet")
    source = read_source("t.parquet", base=tmp_path)
    (tmp_path / "t.parquet").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        rows(source)


def test_a_uri_that_cannot_be_opened_does_not_show_its_secret() -> None:
    with pytest.raises(DataError, match=r"^data\.source = nowhere://bucket/x cannot be opened") as caught:
        read_source("nowhere://key:hunter2@bucket/x", base=Path())
    assert "hunter2" not in str(caught.value)


def test_a_file_is_named_by_both_of_its_hashes(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b\n1,2\n")
    file = read_source("t.csv", base=tmp_path).files[0]
    # What sha256sum and b3sum print of these bytes.
    assert file.sha256 == hashlib.sha256(b"a,b\n1,2\n").hexdigest()
    assert file.blake3 == blake3(b"a,b\n1,2\n").hexdigest()
    (tmp_path / "t.csv").write_bytes(b"a,b\n1,3\n")
    assert read_source("t.csv", base=tmp_path).files[0].blake3 != file.blake3
