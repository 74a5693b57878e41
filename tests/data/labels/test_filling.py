"""Answers in their file, and in place of targets that the source lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlcluster.data import LocalEngine, prepare
from mlcluster.data.labels import (
    Answer,
    Pool,
    answers_of,
    merge_answers,
    named,
    read_answers,
    read_labelled_source,
    read_pool,
    read_store,
    settle,
    write_store,
)
from mlcluster.data.source import read_block, read_source
from mlcluster.errors import DataError
from mlcluster.spec import DataSpec, LabelsSpec

SPEC = DataSpec(source="table.parquet", target="answer")


def table(num_rows: int = 120) -> pa.Table:
    """Rows that are all different, with a class in the first half."""
    return pa.table(
        {
            "number": np.arange(num_rows) * 1.5,
            "word": [f"w{row % 7}" for row in range(num_rows)],
            "answer": pa.array([("a", "b")[row % 2] if row < num_rows / 2 else None for row in range(num_rows)]),
        }
    )


def written(folder: Path, what: pa.Table | None = None) -> Pool:
    pq.write_table(table() if what is None else what, folder / "table.parquet", row_group_size=25)
    return read_pool(SPEC, base=folder)


def store(folder: Path, labels: dict[int, str], pool: Pool, annotator: str = "ann") -> None:
    records = [{"row": str(row), "label": label} for row, label in labels.items()]
    answers = named(answers_of(records, pool, source="test"), annotator)
    write_store(folder / "labels.parquet", merge_answers(read_store(folder / "labels.parquet"), answers).answers)


def targets(folder: Path, spec: DataSpec = SPEC) -> list[Any]:
    source, _ = read_labelled_source(spec, read_source(spec.source, base=folder), base=folder)
    return [value for block in source.blocks for value in read_block(block, source.schema, ["answer"])[0].to_pylist()]


def test_without_answers_the_source_is_as_it_was(tmp_path: Path) -> None:
    written(tmp_path)
    source, findings = read_labelled_source(SPEC, read_source(SPEC.source, base=tmp_path), base=tmp_path)
    assert (findings, len(source.files)) == ([], 1)
    assert all(block.filled is None for block in source.blocks)


def test_answers_stand_in_for_what_is_missing_and_only_for_that(tmp_path: Path) -> None:
    pool = written(tmp_path)
    store(tmp_path, {1: "a", 70: "a", 119: "b"}, pool)
    expected = table().column("answer").to_pylist()
    expected[70], expected[119] = "a", "b"  # row 1 has a label of its own
    assert targets(tmp_path) == expected


def test_other_answers_are_other_data(tmp_path: Path) -> None:
    pool = written(tmp_path)
    digests = []
    for label in ("a", "b"):
        (tmp_path / "labels.parquet").unlink(missing_ok=True)
        store(tmp_path, {70: label}, pool)
        snapshot = prepare(SPEC, base=tmp_path, folder=tmp_path / "snapshot", seed=0, engine=LocalEngine())
        digests.append(snapshot.digest)
    assert len(set(digests)) == 2


def test_an_answer_follows_its_row(tmp_path: Path) -> None:
    pool = written(tmp_path)
    store(tmp_path, {70: "a"}, pool)
    written(tmp_path, pa.concat_tables([table().slice(100), table().slice(0, 100)]))
    found = targets(tmp_path)
    assert found[90] == "a"
    assert sum(value is not None for value in found) == 61


def test_an_answer_to_a_row_that_is_gone_is_said_and_kept(tmp_path: Path) -> None:
    pool = written(tmp_path)
    store(tmp_path, {70: "a", 80: "b"}, pool)
    written(tmp_path, table().slice(0, 75))
    _, findings = read_labelled_source(SPEC, read_source(SPEC.source, base=tmp_path), base=tmp_path)
    assert [(one.kind, one.value) for one in findings] == [("labels_filled", 1.0), ("labels_stale", 1.0)]
    assert len(read_store(tmp_path / "labels.parquet")) == 2


def test_a_source_that_lacks_the_column_gets_it(tmp_path: Path) -> None:
    pq.write_table(table().drop_columns(["answer"]), tmp_path / "table.parquet")
    spec = SPEC.model_copy(update={"labels": LabelsSpec(classes=("a", "b"))})
    store(tmp_path, {3: "b"}, read_pool(spec, base=tmp_path))
    assert targets(tmp_path, spec)[:5] == [None, None, None, "b", None]


def test_a_class_that_nobody_listed_is_refused(tmp_path: Path) -> None:
    written(tmp_path)
    spec = SPEC.model_copy(update={"labels": LabelsSpec(classes=("b", "c"))})
    with pytest.raises(DataError, match=r"data.labels.classes = \['b', 'c'\] lacks 'a', which the target holds"):
        read_pool(spec, base=tmp_path)


def test_the_majority_of_bad_annotators_is_outvoted_by_the_good(tmp_path: Path) -> None:
    pool = written(tmp_path)
    rng = np.random.default_rng(0)
    truth = {row: ("a", "b")[rng.integers(2)] for row in range(60, 120)}
    other = {"a": "b", "b": "a"}
    for name, error in (("good1", 0.05), ("good2", 0.05), ("bad1", 0.5), ("bad2", 0.5), ("bad3", 0.5)):
        said = {row: other[label] if rng.random() < error else label for row, label in truth.items()}
        store(tmp_path, said, pool, name)
    settled = settle(read_answers(pool, base=tmp_path), pool)
    assert sum(settled.labels[row] == label for row, label in truth.items()) >= 55


def test_a_store_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    answers = (Answer(row=3, row_id="00ff", label="a", annotator="ann", given_at="2026-01-01T00:00:00+00:00"),)
    write_store(tmp_path / "deep" / "labels.parquet", answers)
    assert read_store(tmp_path / "deep" / "labels.parquet") == answers
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["labels.parquet"]


@pytest.mark.parametrize("content", [b"no parquet at all", None])
def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path: Path, content: bytes | None) -> None:
    pool = written(tmp_path)
    file = tmp_path / "labels.parquet"
    if content is None:
        pq.write_table(table(), file)
    else:
        file.write_bytes(content)
    before = file.read_bytes()
    with pytest.raises(DataError, match=r"data\.labels\.store = labels\.parquet"):
        store(tmp_path, {70: "a"}, pool)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("classes", "written_as", "label"),
    [((0, 1), "0", 0), ((False, True), "false", False), ((1.0, 2.0), "2", 2.0), (("a b", "c"), " c ", "c")],
)
def test_a_class_is_known_as_it_is_written(tmp_path: Path, classes: Any, written_as: str, label: Any) -> None:
    column = pa.array([*classes, None] * 20)
    pq.write_table(pa.table({"number": np.arange(60.0), "answer": column}), tmp_path / "table.parquet")
    spec = DataSpec(source="table.parquet", target="answer", task="classification")
    pool = read_pool(spec, base=tmp_path)
    store(tmp_path, {2: written_as}, pool)
    assert targets(tmp_path, spec)[2] == label
