from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from data_tables import people, shared_data, write_people

from mlcluster.cli.data_stage import load_training_data
from mlcluster.data import DatasetSnapshot, LocalEngine, Transform, prepare
from mlcluster.errors import DataError
from mlcluster.spec import AugmentSpec, DataSpec


def prepared(base: Path, *, folder: str = "snapshot", seed: int = 1, **settings: Any) -> DatasetSnapshot:
    spec = DataSpec(**{"source": "people.parquet", "target": "rich", "exclude": ["person"], **settings})
    return prepare(spec, base=base, folder=base / folder, seed=seed, engine=LocalEngine())


def test_every_row_stands_in_exactly_one_split(tmp_path: Path) -> None:
    table = write_people(tmp_path)
    numbered = table.append_column("row", pa.array(range(table.num_rows)))
    pq.write_table(numbered, tmp_path / "people.parquet", row_group_size=70)
    snapshot = prepared(tmp_path)
    rows = [row for split in snapshot.num_rows for row in snapshot.table(split).column("row").to_pylist()]
    assert sorted(rows) == list(range(table.num_rows))
    assert sum(snapshot.num_rows.values()) == table.num_rows


def test_a_snapshot_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    write_people(tmp_path)
    snapshot = prepared(tmp_path)
    assert DatasetSnapshot.load(tmp_path / "snapshot") == snapshot
    assert snapshot.name == "people"
    assert (tmp_path / "snapshot" / "manifest.json").is_file()


def test_matrices_are_the_transform_of_the_table(tmp_path: Path) -> None:
    write_people(tmp_path)
    snapshot = prepared(tmp_path)
    for split in ("train", "validation", "test"):
        table = snapshot.table(split)
        for encoding, transform in snapshot.transforms.items():
            features, target = snapshot.matrices(split, encoding)  # type: ignore[arg-type]
            assert features.tobytes() == transform.apply(table).tobytes()
            assert target.tolist() == [int(value == "yes") for value in table.column("rich").to_pylist()]


def test_the_same_data_has_the_same_digest_wherever_it_lies(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second" / "deep"
    for folder in (first, second):
        folder.mkdir(parents=True)
        write_people(folder)
    assert prepared(first).digest == prepared(second, folder="other").digest


def test_threads_do_not_change_the_digest(tmp_path: Path) -> None:
    write_people(tmp_path, 1000, row_group_size=50)
    spec = DataSpec(source="people.parquet", target="rich", exclude=("person",))
    digests = {
        prepare(spec, base=tmp_path, folder=tmp_path / "s", seed=1, engine=LocalEngine(num)).digest for num in (1, 4)
    }
    assert len(digests) == 1


def test_what_changes_the_data_changes_the_digest(tmp_path: Path) -> None:
    write_people(tmp_path)
    settings: list[dict[str, Any]] = [
        {},
        {"seed": 2},
        {"exclude": ["person", "age"]},
        {"split": {"test": 0.3}},
        {"key": "person", "exclude": []},
    ]
    digests = [prepared(tmp_path, **each).digest for each in settings]
    write_people(tmp_path, seed=5)
    digests.append(prepared(tmp_path).digest)
    assert len(set(digests)) == len(digests)


def test_test_rows_leave_the_transform_untouched(tmp_path: Path) -> None:
    table = write_people(tmp_path)
    parts = pa.array(["train", "train", "validation", "test"] * 100)
    pq.write_table(table.append_column("part", parts), tmp_path / "people.parquet", row_group_size=90)
    first = prepared(tmp_path, split="part")
    other = people(400, seed=77).append_column("part", parts)
    is_train = pc.equal(parts, "train")
    columns = [
        pc.if_else(is_train, table.append_column("part", parts).column(name), other.column(name))
        for name in other.column_names
    ]
    changed = pa.Table.from_arrays(columns, names=other.column_names)
    pq.write_table(changed, tmp_path / "people.parquet", row_group_size=90)
    second = prepared(tmp_path, split="part")
    assert first.transforms == second.transforms
    assert first.digest != second.digest


def test_how_rows_lie_in_row_groups_leaves_the_transform_untouched(tmp_path: Path) -> None:
    transforms: list[dict[str, Transform]] = []
    for size in (400, 130, 9):
        write_people(tmp_path, row_group_size=size)
        transforms.append(dict(prepared(tmp_path).transforms))
    assert transforms[0] == transforms[1] == transforms[2]


def test_an_entity_stays_in_one_split(tmp_path: Path) -> None:
    table = write_people(tmp_path)
    copy = table.append_column("person_again", table.column("person"))
    pq.write_table(copy, tmp_path / "people.parquet", row_group_size=60)
    snapshot = prepared(tmp_path, key="person", exclude=[], sensitive=["person_again"])
    groups = [set(snapshot.table(split).column("person_again").to_pylist()) for split in snapshot.num_rows]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert "person" not in snapshot.schema.feature_names


def test_entities_that_a_split_by_time_parts_are_told(tmp_path: Path) -> None:
    table = write_people(tmp_path)
    timed = table.append_column("when", pa.array(range(table.num_rows)))
    pq.write_table(timed, tmp_path / "people.parquet")
    snapshot = prepared(tmp_path, key="person", time="when", exclude=[])
    assert snapshot.num_rows == {"train": 240, "validation": 80, "test": 80}
    assert [finding.column for finding in snapshot.findings if finding.kind == "entity_overlap"] == ["person"]


def test_rows_without_a_target_are_left_out_and_told(tmp_path: Path) -> None:
    table = write_people(tmp_path)
    target = pa.array([None if index % 10 == 0 else value for index, value in enumerate(table["rich"].to_pylist())])
    pq.write_table(table.set_column(4, "rich", target), tmp_path / "people.parquet")
    snapshot = prepared(tmp_path)
    assert sum(snapshot.num_rows.values()) == 360
    assert snapshot.quarantined == 0
    assert any(f.kind == "target_missing" and f.value == 40 for f in snapshot.findings)


def test_quarantined_rows_are_set_aside_with_their_reason(tmp_path: Path) -> None:
    table = write_people(tmp_path)
    expect = {"age": "18..80", "job": "not_null", "member": "not_null"}
    snapshot = prepared(tmp_path, expect=expect, bad_rows="quarantine")
    quarantine = snapshot.quarantine()
    assert quarantine.num_rows == snapshot.quarantined == table.num_rows - sum(snapshot.num_rows.values()) > 0
    assert set(quarantine.column_names) == {*table.column_names, "reason"}
    for row in quarantine.to_pylist():
        assert ("age" in row["reason"]) == (row["age"] is not None and not 18 <= row["age"] <= 80)
        assert ("job: is missing" in row["reason"]) == (row["job"] is None)
    assert {finding.column for finding in snapshot.findings if finding.kind == "bad_rows"} == {"age", "job", "member"}


def test_bad_rows_are_kept_and_told_under_warn(tmp_path: Path) -> None:
    write_people(tmp_path)
    snapshot = prepared(tmp_path, expect={"age": "..80"}, bad_rows="warn")
    assert sum(snapshot.num_rows.values()) == 400
    assert any(finding.kind == "bad_rows" and "kept" in finding.message for finding in snapshot.findings)


@pytest.mark.parametrize(
    ("expect", "problem"),
    [
        ({"age": "0..50"}, r"data\.expect\.age = 0\.\.50 is broken by \d+ rows \(is above 50; rows \d+, .*first value"),
        ({"age": "50.."}, "is below 50"),
        ({"job": "not_null"}, "data.expect.job = not_null is broken by .*first value None"),
        ({"person": "unique"}, "repeats an earlier row"),
        ({"job": ["cook", "poet"]}, r"data\.expect\.job = \['cook', 'poet'\] is broken by .*none of the listed"),
        ({"job": "0..3"}, "data.expect.job = a range does not fit a column of type string"),
        ({"age": ["young", "old"]}, r"data\.expect\.age = \['young', 'old'\] does not fit a column of type int64"),
    ],
)
def test_a_broken_expectation_fails_with_count_rows_and_value(
    tmp_path: Path, expect: dict[str, Any], problem: str
) -> None:
    write_people(tmp_path)
    with pytest.raises(DataError, match=problem):
        prepared(tmp_path, expect=expect)


def test_later_repeats_of_a_unique_value_are_quarantined(tmp_path: Path) -> None:
    table = write_people(tmp_path)
    snapshot = prepared(tmp_path, expect={"person": "unique"}, bad_rows="quarantine")
    assert sum(snapshot.num_rows.values()) == pc.count_distinct(table["person"]).as_py()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"target": "rihc"}, r"^data\.target = rihc is no column of people.parquet; did you mean rich\?"),
        ({"key": "persn"}, r"^data\.key = persn is no column .*did you mean person\?"),
        ({"time": "zzz"}, r"^data\.time = zzz is no column of people.parquet; use one of age, "),
        ({"exclude": ["Age"]}, r"^data\.exclude = Age .*did you mean age\?"),
        ({"sensitive": ["jobs"]}, r"^data\.sensitive = jobs .*did you mean job\?"),
        ({"split": "parts"}, r"^data\.split\.column = parts is no column"),
        ({"expect": {"ages": "0.."}}, r"^data\.expect = ages .*did you mean age\?"),
        ({"exclude": ["age", "hours", "job", "member", "person"]}, r"^data\.exclude = .*leaves no feature"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_the_nearest_one(
    tmp_path: Path, settings: dict[str, Any], problem: str
) -> None:
    write_people(tmp_path)
    with pytest.raises(DataError, match=problem):
        prepared(tmp_path, **settings)


def test_a_date_among_the_features_is_refused_with_the_way_out(tmp_path: Path) -> None:
    table = people(50)
    dates = pa.array(range(50), pa.timestamp("s"))
    pq.write_table(table.append_column("joined", dates), tmp_path / "people.parquet")
    with pytest.raises(DataError, match=r"column joined of type timestamp\[ms\].*put it under data.time"):
        prepared(tmp_path)


def test_a_column_of_nothing_is_left_out_and_told(tmp_path: Path) -> None:
    table = people(100).append_column("empty", pa.nulls(100, pa.string())).append_column("void", pa.nulls(100))
    pq.write_table(table, tmp_path / "people.parquet")
    snapshot = prepared(tmp_path)
    assert snapshot.schema.feature_names == ("age", "hours", "job", "member")
    assert {finding.column for finding in snapshot.findings if finding.kind == "all_missing"} == {"empty", "void"}
    assert {"empty", "void", "person"} <= set(snapshot.schema.non_features)


def test_a_split_without_rows_is_an_error(tmp_path: Path) -> None:
    two = people(50).take([0, 1]).set_column(4, "rich", pa.array(["no", "yes"]))
    pq.write_table(two, tmp_path / "people.parquet")
    with pytest.raises(DataError, match=r"^data\.split = validation 0\.2, test 0\.2 leaves no \w+ rows of 2; give"):
        prepared(tmp_path)


def test_a_failed_run_leaves_the_old_snapshot_and_no_litter(tmp_path: Path) -> None:
    write_people(tmp_path)
    before = prepared(tmp_path)
    with pytest.raises(DataError, match="is broken by"):
        prepared(tmp_path, expect={"age": "..20"})
    assert DatasetSnapshot.load(tmp_path / "snapshot") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["people.parquet", "snapshot"]


def test_preparing_again_replaces_the_snapshot(tmp_path: Path) -> None:
    write_people(tmp_path)
    first = prepared(tmp_path)
    second = prepared(tmp_path, seed=2)
    assert DatasetSnapshot.load(tmp_path / "snapshot").digest == second.digest != first.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["people.parquet", "snapshot"]


def test_csv_and_json_make_a_snapshot_too(tmp_path: Path) -> None:
    table = people(200)
    rows = table.to_pylist()
    for row in rows:
        row["hours"] = None if row["hours"] is None or np.isnan(row["hours"]) else row["hours"]
    (tmp_path / "people.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    header = ",".join(table.column_names)
    lines = [",".join("" if value is None else str(value).lower() for value in row.values()) for row in rows]
    (tmp_path / "people.csv").write_text("\n".join([header, *lines]))
    from_json = prepared(tmp_path, source="people.jsonl")
    from_csv = prepared(tmp_path, source="people.csv")
    assert from_json.transforms == from_csv.transforms
    assert [feature.kind for feature in from_csv.schema.features] == ["number", "number", "category", "boolean"]


@pytest.mark.parametrize("victim", ["manifest.json", "transforms.json", "test/part-00000.parquet"])
def test_an_altered_snapshot_is_refused(tmp_path: Path, victim: str) -> None:
    write_people(tmp_path)
    prepared(tmp_path)
    path = tmp_path / "snapshot" / victim
    text = path.read_bytes()
    path.write_bytes(text.replace(b"job", b"jab") if victim.endswith("json") else text[:-1])
    with pytest.raises(DataError, match=r"^snapshot = .*prepare the data again"):
        DatasetSnapshot.load(tmp_path / "snapshot")


def change_a_byte(path: Path) -> None:
    """Size, inode and time of writing stay what they were."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with path.open("r+b") as stream:
        stream.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_ino, after.st_mtime_ns) == (before.st_size, before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("victim", ["dense-00001.npy", "target-00000.npy", "part-00002.parquet"])
@pytest.mark.parametrize("is_loaded", [True, False])
def test_training_refuses_a_file_whose_bytes_have_changed(tmp_path: Path, victim: str, is_loaded: bool) -> None:
    write_people(tmp_path)
    snapshot = prepared(tmp_path)
    change_a_byte(tmp_path / "snapshot" / "train" / victim)
    if is_loaded:
        snapshot = DatasetSnapshot.load(tmp_path / "snapshot")
    with pytest.raises(DataError, match=rf"^snapshot = .*/train/{victim} was altered after it was made .* --fresh"):
        load_training_data(snapshot, ("mlp",), augment=AugmentSpec(oversample={"job=poet": 0.3}), seed=0)
    assert snapshot.matrices("validation", "dense")[0].shape[0] == snapshot.num_rows["validation"]


def test_a_file_that_was_put_beside_the_others_is_refused(tmp_path: Path) -> None:
    write_people(tmp_path)
    snapshot = prepared(tmp_path)
    folder = tmp_path / "snapshot" / "train"
    shutil.copy(folder / "part-00000.parquet", folder / "part-00009.parquet")
    with pytest.raises(DataError, match=r"part-00009.parquet was altered"):
        snapshot.table("train")


def test_a_snapshot_from_before_there_were_hashes_is_read(tmp_path: Path) -> None:
    write_people(tmp_path)
    path = prepared(tmp_path).folder / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest.pop("blake3").keys() == manifest["parts"].keys()
    path.write_text(json.dumps(manifest))
    snapshot = DatasetSnapshot.load(tmp_path / "snapshot")
    assert snapshot.table("train").num_rows == snapshot.num_rows["train"]


def test_no_snapshot_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        DatasetSnapshot.load(tmp_path)


def test_an_unknown_split_or_encoding_is_named(tmp_path: Path) -> None:
    write_people(tmp_path)
    snapshot = prepared(tmp_path)
    with pytest.raises(DataError, match="split = dev is unknown; use one of train, validation, test"):
        snapshot.table("dev")
    with pytest.raises(DataError, match="encoding = sparse is unknown"):
        snapshot.matrices("train", "sparse")  # type: ignore[arg-type]


def test_adult_keeps_its_official_test_split(tmp_path: Path) -> None:
    spec = DataSpec(source="adult.parquet", target="income", split="split", sensitive=("sex", "race"))  # type: ignore[arg-type]
    snapshot = prepare(spec, base=shared_data(), folder=tmp_path / "adult", seed=1, engine=LocalEngine())
    assert snapshot.num_rows["test"] == 16_281
    assert snapshot.num_rows["train"] + snapshot.num_rows["validation"] == 32_561
    assert snapshot.schema.target.classes == ("<=50K", ">50K")
    assert {column.name for column in snapshot.schema.features if column.has_missing} == {
        "workclass",
        "occupation",
        "native_country",
    }
    assert np.isfinite(snapshot.matrices("test", "dense")[0]).all()
    overlap = [finding for finding in snapshot.findings if finding.kind == "split_overlap"]
    assert len(overlap) == 2


def test_bike_sharing_is_a_regression_that_is_split_by_time(tmp_path: Path) -> None:
    spec = DataSpec(source="bike_sharing_hourly.parquet", target="cnt", time="dteday")
    snapshot = prepare(spec, base=shared_data(), folder=tmp_path / "bike", seed=1, engine=LocalEngine())
    assert snapshot.schema.target.task == "regression"
    told = {(finding.kind, finding.column) for finding in snapshot.findings}
    assert ("leak", "registered") in told
    assert ("id_like", "instant") in told
    assert "dteday" not in snapshot.schema.feature_names


def test_electricity_is_split_by_time(tmp_path: Path) -> None:
    spec = DataSpec(source="electricity_elec2.parquet", target="class", time="t")
    snapshot = prepare(spec, base=shared_data(), folder=tmp_path / "elec", seed=1, engine=LocalEngine())
    assert snapshot.schema.target.task == "binary"
    assert snapshot.num_rows["test"] == pytest.approx(0.2 * 45_312, abs=2)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"split": {"stratify": True}},
        {"split": {"group": "job"}, "sensitive": ["job"]},
        {"time": "person", "exclude": [], "split": {"gap": 5}},
        {"expect": {"age": "20..85"}, "bad_rows": "quarantine"},
    ],
)
def test_the_rows_add_up(tmp_path: Path, settings: dict[str, Any]) -> None:
    table = write_people(tmp_path)
    target = pa.array([None if index % 20 == 0 else value for index, value in enumerate(table["rich"].to_pylist())])
    pq.write_table(table.set_column(4, "rich", target), tmp_path / "people.parquet", row_group_size=90)
    snapshot = prepared(tmp_path, **settings)
    rows = dict(snapshot.manifest["rows"])
    assert rows.pop("source") == sum(rows.values()) == 400
    assert {split: rows[split] for split in snapshot.num_rows} == snapshot.num_rows
    assert rows["quarantined"] == snapshot.quarantine().num_rows
    assert rows["without_target"] + sum(value is None for value in snapshot.quarantine()["rich"].to_pylist()) == 20
    assert (rows["in_gap"] > 0) == ("time" in settings)


def test_a_group_stays_together_and_may_be_learned_from(tmp_path: Path) -> None:
    table = write_people(tmp_path, 1000)
    towns = pa.array([f"town {row % 60}" for row in range(1000)])
    pq.write_table(table.append_column("town", towns), tmp_path / "people.parquet")
    snapshot = prepared(tmp_path, split={"group": "town"})
    groups = [set(snapshot.table(split).column("town").to_pylist()) for split in snapshot.num_rows]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert "town" in snapshot.schema.feature_names


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"split": {"stratify": True, "group": "job"}}, "two ways"),
        ({"split": {"gap": "7d"}}, "name the event time"),
        ({"split": {"stratify": True}, "key": "person"}, "drop one of them"),
        ({"split": {"column": "part", "stratify": True}}, "names a column that holds the split"),
        ({"split": {"gap": "a week"}, "time": "person"}, "is no time span"),
    ],
)
def test_splits_that_cannot_be_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        DataSpec(**{"source": "people.parquet", "target": "rich", **settings})
