from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from blake3 import blake3
from data_tables import PEOPLE, fitted, partials_of, people, people_tables, write_people
from hypothesis import given, settings

from mlcluster.data import ALL_ENCODINGS, Encoding, LocalEngine, Shards, Transform, prepare_shards
from mlcluster.data.columnar import ColumnarTransform
from mlcluster.data.fit import fit_transform
from mlcluster.errors import DataError
from mlcluster.spec import DataSpec


def shards_of(base: Path, encoding: Encoding = "mixed", seed: int = 1, **settings: Any) -> Shards:
    spec = DataSpec(**{"source": "people.parquet", "target": "rich", "exclude": ["person"], **settings})
    return prepare_shards(spec, base=base, folder=base / "shards", seed=seed, engine=LocalEngine(), encoding=encoding)


def table_of(shards: Shards, split: str) -> pa.Table:
    return pa.concat_tables([pq.read_table(path, partitioning=None) for path in shards.paths(split)])


@pytest.mark.parametrize("encoding", ALL_ENCODINGS)
@settings(deadline=None, max_examples=40)
@given(table=people_tables())
def test_columns_hold_the_bits_of_the_matrix(encoding: Encoding, table: pa.Table) -> None:
    transform = fitted(people(300), encoding)
    columns = ColumnarTransform(transform).apply(table)
    assert tuple(columns.column_names) == transform.output_names
    matrix = np.column_stack([column.to_numpy().astype(np.float32) for column in columns.columns])
    assert matrix.tobytes() == transform.apply(table).tobytes()


def test_mixed_puts_the_most_frequent_level_for_a_missing_one_and_says_so() -> None:
    table = people(300)
    transform = fit_transform(PEOPLE, partials_of(table), "mixed")
    job = next(column for column in transform.columns if column.name == "job")
    counts = table.column("job").value_counts().to_pylist()
    mode = max((each for each in counts if each["values"]), key=lambda each: each["counts"])["values"]
    encoded = ColumnarTransform(transform).apply(table.slice(0, 300))
    is_missing = table.column("job").is_null()
    assert encoded.column("job:missing").to_pylist() == is_missing.to_pylist()
    assert all(encoded.column(f"job={mode}").filter(is_missing).to_pylist())
    assert Transform.from_json(json.loads(json.dumps(transform.to_json()))) == transform
    assert job.outputs[-1] == "job:missing"


def test_a_category_of_many_levels_is_one_column_of_codes(tmp_path: Path) -> None:
    table = people(400)
    towns = pa.array([f"town {row % 40}" for row in range(400)])
    pq.write_table(table.append_column("town", towns), tmp_path / "people.parquet", row_group_size=70)
    shards = shards_of(tmp_path)
    assert table_of(shards, "train").schema.field("town").type == pa.uint8()


def test_every_row_is_in_a_shard_in_quarantine_or_without_a_target(tmp_path: Path) -> None:
    table = write_people(tmp_path, 1000, row_group_size=90)
    target = pa.array([None if row % 50 == 0 else value for row, value in enumerate(table["rich"].to_pylist())])
    pq.write_table(table.set_column(4, "rich", target), tmp_path / "people.parquet", row_group_size=90)
    shards = shards_of(tmp_path, expect={"age": "20..85"}, bad_rows="quarantine")
    quarantine = pq.read_table(tmp_path / "shards" / "quarantine.parquet")
    num_unlabelled_here = sum(value is None for value in quarantine["rich"].to_pylist())
    written = {split: table_of(shards, split).num_rows for split in shards.num_rows}
    assert written == shards.num_rows
    assert quarantine.num_rows == shards.manifest["quarantined"] > 0
    assert sum(written.values()) + quarantine.num_rows + 20 - num_unlabelled_here == 1000


def test_the_seed_places_the_rows(tmp_path: Path) -> None:
    write_people(tmp_path, 500)
    first, again, other = shards_of(tmp_path, seed=1), shards_of(tmp_path, seed=1), shards_of(tmp_path, seed=2)
    assert first.manifest == again.manifest
    assert first.manifest["labels"] != other.manifest["labels"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    write_people(tmp_path)
    before = shards_of(tmp_path).manifest
    with pytest.raises(DataError, match="is broken by"):
        shards_of(tmp_path, expect={"age": "..20"})
    assert json.loads((tmp_path / "shards" / "manifest.json").read_text()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["people.parquet", "shards"]


def test_the_manifest_names_the_bytes_of_every_shard(tmp_path: Path) -> None:
    write_people(tmp_path)
    shards = shards_of(tmp_path)
    assert shards.manifest["blake3"].keys() == shards.manifest["shards"].keys()
    for name, digest in shards.manifest["blake3"].items():
        content = (shards.folder / name).read_bytes()
        assert blake3(content).hexdigest() == digest
        assert len(content) == shards.manifest["shards"][name]
