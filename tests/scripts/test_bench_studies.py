"""`scripts/bench_studies.py` as a user runs it, on a table that is learnt in no time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 30.0
"""On a busy machine, starting the workers alone takes half of that."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PROJECT = """
data: {source: cancer.parquet, target: target}
models: [linear, tree, boosting]
tune: {metric: roc_auc}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sklearn.datasets import load_breast_cancer

    found = tmp_path_factory.mktemp("tables")
    pq.write_table(pa.Table.from_pandas(load_breast_cancer(as_frame=True).frame), found / "cancer.parquet")
    (found / "cancer.yaml").write_text(PROJECT)
    return found


def bench(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "bench_studies.py", "--out", "studies.json", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_both_searches_train_the_same_learners_for_the_same_dollars(folder: Path) -> None:
    words = ("--datasets", "cancer.yaml", "--seeds", "1", "--minutes", str(SECONDS / 60))
    done = bench(folder, *words, "--picture", "studies.svg")
    assert done.returncode == 0, done.stderr
    document = json.loads((folder / "studies.json").read_text())
    assert str(folder) not in json.dumps(document)
    assert document["datasets"]["cancer"]["metric"] == "roc_auc"
    assert [(run["policy"], run["seed"]) for run in document["runs"]] == [("ours", 0), ("ray-default", 0)]
    for run in document["runs"]:
        assert 0 < run["usd"] <= document["header"]["usd"] * (1 + 1e-6)
        assert run["failed"] == 0, run
        assert run["trials"] > 1
        # Trained again it is the same model, but for the rounding of nets that were trained as one.
        assert run["validation_gap"] < 1e-3
        best = run["trace"][-1]
        assert 0.9 < best["test"] <= 1
        assert best["family"] in ("linear", "tree", "boosting")
        assert [one["validation"] for one in run["trace"]] == sorted({one["validation"] for one in run["trace"]})
        assert all(0 < one["seconds"] <= SECONDS for one in run["trace"])
    assert "| cancer (roc_auc) | ray-default | " in done.stdout
    assert "| cancer | ours | ray-default's " in done.stdout
    assert "[2/2] ray-default on cancer, seed 0: validation " in done.stderr
    assert (folder / "studies.svg").read_text().startswith("<?xml")

    again = bench(folder, *words)
    assert (again.returncode, again.stdout, again.stderr) == (0, done.stdout, "")

    other_money = bench(folder, "--datasets", "cancer.yaml", "--seeds", "1", "--minutes", "9")
    assert other_money.returncode == 2
    assert f"seconds = 540.0 is not that of studies.json, {SECONDS}" in other_money.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--policies", "our"], "--policies = 'our' is not known"),
        (["--datasets", "cancre.yaml"], "--datasets = 'cancre.yaml' is no project file"),
        (["--usd", "0"], "--usd = 0.0 buys nothing"),
        (["--seeds", "0"], "--seeds = 0 makes no run"),
    ],
)
def test_a_wrong_word_is_answered_in_one_line(tmp_path: Path, words: list[str], complaint: str) -> None:
    done = bench(tmp_path, *words)
    assert done.returncode == 2
    assert done.stderr.startswith("bench_studies: ")
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
