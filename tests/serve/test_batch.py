"""A table of any size, answered in blocks as the endpoint answers rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlcluster.data import LocalEngine, conform
from mlcluster.data.source import read_source
from mlcluster.errors import DataError
from mlcluster.registry import Bundle
from mlcluster.serve import Predictor
from mlcluster.serve.batch import ScoreProgress, score_table
from tests.registry.bundles import Task, sample_bundle, sample_table

NUM_ROWS = 1000


def with_ids(table: pa.Table) -> pa.Table:
    """`outcome` is the target, which may stand in what is answered."""
    return table.append_column("outcome", pa.array([f"row {row}" for row in range(table.num_rows)]))


def scored(base: Path, table: pa.Table, bundle: Bundle, out: str, **more: object) -> Path:
    pq.write_table(table, base / "rows.parquet", row_group_size=130)
    if not (base / "bundle").exists():
        bundle.write(base / "bundle")
    source = read_source("rows.parquet", base=base, key="ROWS")
    score_table(source, base / "bundle", base / out, engine=LocalEngine(2), **more)  # type: ignore[arg-type]
    return base / out


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("out", ["answers.parquet", "answers"])
def test_every_row_has_the_answer_that_it_has_alone(tmp_path: Path, task: Task, out: str) -> None:
    bundle, table = sample_bundle(task), sample_table(NUM_ROWS)
    answers = pq.read_table(scored(tmp_path, with_ids(table), bundle, out))
    expected = Predictor(bundle).predict(conform(table, bundle.schema))
    assert answers.select(table.column_names).to_pylist() == table.to_pylist()
    assert answers["outcome"].to_pylist() == [f"row {row}" for row in range(NUM_ROWS)]
    assert answers["prediction"].to_pylist() == expected.labels
    for index, label in enumerate(bundle.schema.target.classes):
        assert answers[f"probability of {label}"].to_pylist() == expected.scores[:, index].tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["bundle", "rows.parquet", out])


def test_only_the_columns_asked_for_stand_before_the_answers(tmp_path: Path) -> None:
    out = scored(tmp_path, with_ids(sample_table(300)), sample_bundle(), "few.parquet", kept=["outcome"])
    assert pq.read_schema(out).names == ["outcome", "prediction", "probability of no", "probability of yes"]


def test_a_row_that_cannot_be_answered_is_named_and_the_old_answers_stay(tmp_path: Path) -> None:
    table, bundle = sample_table(NUM_ROWS), sample_bundle()
    out = scored(tmp_path, table, bundle, "answers.parquet")
    before = out.read_bytes()
    ages = [float(age) for age in table["age"].to_pylist()]
    ages[777] = 30.5
    spoilt = table.set_column(1, "age", pa.array(ages))
    with pytest.raises(DataError, match=r"rows\.parquet: age = 30\.5 .*row 777 of the table"):
        scored(tmp_path, spoilt, bundle, "answers.parquet")
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.parquet", "bundle", "rows.parquet"]


def test_columns_that_do_not_fit_are_refused_before_any_work(tmp_path: Path) -> None:
    table, bundle = sample_table(50), sample_bundle()
    with pytest.raises(DataError, match="--keep = town is no column"):
        scored(tmp_path, table, bundle, "a.parquet", kept=["town"])
    named = table.append_column("prediction", pa.array(np.zeros(50)))
    with pytest.raises(DataError, match="has a column prediction"):
        scored(tmp_path, named, bundle, "a.parquet")
    with pytest.raises(DataError, match="city is missing"):
        scored(tmp_path, table.drop_columns(["city"]), bundle, "a.parquet")


def test_progress_ends_at_all_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlcluster.serve.batch._POLL_SECONDS", 0.001)
    told: list[ScoreProgress] = []
    scored(tmp_path, sample_table(20_000), sample_bundle(), "a.parquet", say=told.append)
    shares = [(each.num_done, each.num_tasks) for each in told]
    assert shares == sorted(shares)
    assert shares
    assert {total for _, total in shares} == {154}
    assert {each.num_rows for each in told} == {20_000}
