"""Which snapshot of a project came before which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlcluster.cli.data_stage import parent_of
from mlcluster.cli.workspace import RunFolder, Workspace
from mlcluster.data import DatasetSnapshot, LocalEngine, prepare
from mlcluster.spec import DataSpec


def run_of(workspace: Workspace, key: str, seed: int, *, is_done: bool = True) -> tuple[RunFolder, DatasetSnapshot]:
    """What the data stage of a run leaves, of rows that the seed makes."""
    run = workspace.open_run(key, fresh=True)
    base = workspace.root
    numbers = np.random.default_rng(seed).normal(size=300)
    pq.write_table(pa.table({"x": numbers, "answer": numbers * 2}), base / "t.parquet")
    spec = DataSpec(source="t.parquet", target="answer")
    snapshot = prepare(spec, base=base, folder=run.snapshot, seed=1, engine=LocalEngine())
    snapshot = snapshot.with_parent(parent_of(run, snapshot.digest, workspace.runs()))
    if is_done:
        run.update(data="done")
    return run, snapshot


def test_each_version_of_the_data_names_the_one_before_it(tmp_path: Path) -> None:
    workspace = Workspace(root=tmp_path)
    _, first = run_of(workspace, "a", seed=1)
    run_of(workspace, "b", seed=5, is_done=False)  # cut off before its data was whole
    run, second = run_of(workspace, "c", seed=2)
    _, again = run_of(workspace, "d", seed=2)
    _, back = run_of(workspace, "e", seed=1)
    assert first.manifest["parent"] is None
    assert second.manifest["parent"] == first.digest != second.digest
    assert again.digest == second.digest
    assert again.manifest["parent"] == first.digest
    assert back.digest == first.digest
    assert back.manifest["parent"] == second.digest
    loaded = DatasetSnapshot.load(run.snapshot)
    assert loaded.manifest["parent"] == first.digest
    assert loaded.digest == second.digest
