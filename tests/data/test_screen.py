"""`data.screen`: the poisoned rows of a source, from the project file to the snapshot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_tables import write_people

from mlcluster.data import DatasetSnapshot, LocalEngine, prepare
from mlcluster.spec import DataSpec, ScreenSpec

NUM_CLEAN, NUM_PLANTED = 1500, 130


def poisoned(folder: Path, num_planted: int = NUM_PLANTED) -> None:
    """A linear table, and behind it rows at its corners with the opposite answer; all are train rows but 300."""
    rng = np.random.default_rng(0)
    features = rng.random((NUM_CLEAN, 6))
    answers = features @ np.array([1.0, -1.0, 0.5, 0.5, -0.5, 0.2]) / 2 + 0.4 + rng.normal(0, 0.05, NUM_CLEAN)
    picked = rng.choice(NUM_CLEAN, num_planted)
    planted = np.round(features[picked]), np.where(answers[picked] > 0.4, -0.6, 1.4)
    table = np.vstack([features, planted[0]])
    split = np.where(np.arange(len(table)) < 150, "test", "train")
    split[150:300] = "validation"
    columns: dict[str, Any] = {f"x{index}": table[:, index] for index in range(6)}
    columns |= {"answer": np.append(answers, planted[1]), "split": split}
    pq.write_table(pa.table(columns), folder / "table.parquet", row_group_size=400)


def prepared(folder: Path, action: Any, *, threads: int = 1, seed: int = 0) -> DatasetSnapshot:
    spec = DataSpec(source="table.parquet", target="answer", split="split", screen=ScreenSpec(trimmed_loss=action))
    return prepare(spec, base=folder, folder=folder / f"s-{action}", seed=seed, engine=LocalEngine(threads))


def error_on_test(snapshot: DatasetSnapshot) -> float:
    features, targets = snapshot.matrices("train", "dense")
    design = np.column_stack([features, np.ones(len(targets))])
    weights = np.linalg.lstsq(design, targets, rcond=None)[0]
    features, targets = snapshot.matrices("test", "dense")
    return float(np.mean((np.column_stack([features, np.ones(len(targets))]) @ weights - targets) ** 2))


def suspects_of(snapshot: DatasetSnapshot) -> float | None:
    return next((finding.value for finding in snapshot.findings if finding.kind == "suspect_rows"), None)


def test_the_planted_rows_are_quarantined_and_the_model_is_as_without_them(tmp_path: Path) -> None:
    poisoned(tmp_path)
    off, screened = prepared(tmp_path, "off"), prepared(tmp_path, "quarantine")
    quarantined = screened.quarantine()
    is_planted = [abs(value - 0.4) == pytest.approx(1.0) for value in quarantined.column("answer").to_pylist()]
    assert sum(is_planted) >= 0.95 * NUM_PLANTED
    assert len(is_planted) - sum(is_planted) <= 5
    assert set(quarantined.column("reason").to_pylist()) == {
        "does not fit a robust linear model of the other train rows"
    }
    assert error_on_test(off) > 1.5 * error_on_test(screened)
    assert error_on_test(screened) < 1.1 * 0.05**2
    assert screened.num_rows["train"] + screened.quarantined == off.num_rows["train"]
    assert suspects_of(screened) == screened.quarantined
    assert suspects_of(off) is None


def test_a_warning_names_the_number_and_the_rows_and_keeps_them(tmp_path: Path) -> None:
    poisoned(tmp_path)
    warned = prepared(tmp_path, "warn")
    finding = next(finding for finding in warned.findings if finding.kind == "suspect_rows")
    assert (warned.quarantined, warned.num_rows["train"]) == (0, NUM_CLEAN + NUM_PLANTED - 300)
    first = int(finding.message.split("(rows ")[1].split(",")[0])
    assert first >= NUM_CLEAN
    assert finding.message.endswith("look at them, or set data.screen.trimmed_loss: quarantine.")
    assert warned.digest == prepared(tmp_path, "off").digest


def test_what_is_found_depends_on_no_number_of_threads(tmp_path: Path) -> None:
    poisoned(tmp_path)
    assert prepared(tmp_path, "quarantine").digest == prepared(tmp_path, "quarantine", threads=3).digest


def test_a_clean_table_loses_next_to_nothing(tmp_path: Path) -> None:
    poisoned(tmp_path, num_planted=0)
    assert prepared(tmp_path, "quarantine").quarantined <= 2


def test_classes_with_missing_values_and_categories_are_screened(tmp_path: Path) -> None:
    write_people(tmp_path, 1000)
    spec = DataSpec(
        source="people.parquet", target="rich", exclude=("person",), screen=ScreenSpec(trimmed_loss="quarantine")
    )
    snapshot = prepare(spec, base=tmp_path, folder=tmp_path / "snapshot", seed=1, engine=LocalEngine())
    assert snapshot.quarantined <= 5
