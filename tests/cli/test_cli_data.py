"""`data check` and `data prepare`, as a person runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.projects import make_project, run_here

PLAIN = """
    project: demo
    data:
      source: data/table.parquet
      target: answer
      exclude: [empty, constant]
      expect: {amount: -1000..}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "demo", PLAIN)


def spoil(folder: Path, num_rows: int = 5) -> Path:
    """A copy of the table, with some amounts below -1000."""
    table = pq.read_table(folder / "data" / "table.parquet")
    amounts = table.column("amount").to_pylist()
    amounts[:num_rows] = [-2000.0] * num_rows
    index = table.column_names.index("amount")
    kind = table.schema.field("amount").type
    path = folder / "new.parquet"
    pq.write_table(table.set_column(index, "amount", pa.array(amounts, kind)), path)
    return path


def test_good_data_passes(project: Path) -> None:
    done = run_here(project, "data", "check")
    assert done.code == 0
    assert "0 bad; 0 rules broken" in done.stdout


def test_bad_data_is_told_set_aside_and_exits_with_2(project: Path) -> None:
    spoil(project)
    done = run_here(project, "data", "check", "new.parquet", "--quarantine", "bad.parquet")
    assert done.code == 2
    assert "amount = -1000..: is below -1000 in 5 rows (0, 1, 2, 3, 4; first value -2000" in done.stdout
    assert pq.read_table(project / "bad.parquet").column("reason").to_pylist() == ["amount: is below -1000"] * 5
    told = run_here(project, "data", "check", "new.parquet", "--json")
    assert told.code == 2
    assert told.json["bad_rows"] == told.json["broken"][0]["num_rows"] == 5


def test_prepared_data_is_shards_that_add_up(project: Path) -> None:
    done = run_here(project, "data", "prepare", "--out", "ready", "--json")
    assert done.code == 0, done.stderr
    rows = done.json["rows"]
    assert rows["source"] == sum(count for name, count in rows.items() if name != "source")
    for split in ("train", "validation", "test"):
        paths = sorted((project / "ready" / split).glob("*.parquet"))
        assert sum(pq.read_metadata(path).num_rows for path in paths) == rows[split]
    plain = run_here(project, "data", "prepare", "--out", "ready", "--encoding", "dense")
    assert f"{rows['source']} rows: {rows['train']} train" in plain.stdout


def test_a_folder_of_other_things_is_not_replaced(project: Path) -> None:
    done = run_here(project, "data", "prepare", "--out", "data")
    assert done.code == 2
    assert "--out = data holds something other than prepared data" in done.complaint
    assert (project / "data" / "table.parquet").is_file()


@pytest.mark.parametrize("words", [["data", "check"], ["data", "profile"], ["data", "prepare", "--out", "ready"]])
def test_data_work_loads_no_cluster_and_no_learner(project: Path, words: list[str]) -> None:
    probe = (
        "import json, sys\n"
        "from mlcluster.cli.main import cli\n"
        "cli.main(args=sys.argv[1:], standalone_mode=False)\n"
        "print(json.dumps([name for name in ('ray', 'torch', 'sklearn', 'mlflow') if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, *words], cwd=project, capture_output=True, text=True, check=True, timeout=120
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []
