"""Scoring a table: `mlcluster predict --out` against `mlflow.pyfunc` on pandas, with the same registered model.

    .venv/bin/python scripts/bench_batch.py --project DIR [--rows 0.5] [--repeats 3] [--out batch.json]

DIR is a project after `mlcluster run`. Its test rows, repeated up to so many millions, are answered by the deployed
model: by ours from Parquet to Parquet on two threads, and by `mlflow.pyfunc.load_model(...).predict` on the table as
pandas reads it, 100,000 rows a call, answers written by pandas. Labels of both are compared. Each in a process of its
own, imports and the loading of the model left out; they take turns, and the table shows medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bench_files import provenance, say, write_document

from mlcluster import Project

ENGINES = ("pyfunc", "ours")
PACKAGES = ("mlcluster", "mlflow", "onnxruntime", "pandas", "pyarrow")
CHUNK_ROWS = 100_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, required=True, help="a project folder after mlcluster run")
    parser.add_argument("--rows", type=float, default=0.5, help="millions of rows")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write all runs to this JSON file")
    parser.add_argument("--child", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(run_child(given.child, given.project, given.scratch)))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        family = write_rows(given.project, Path(scratch), round(given.rows * 1e6))
        runs = [
            {"family": family, "rows_millions": given.rows, "engine": engine, "repeat": repeat}
            | run_engine(engine, given.project, Path(scratch))
            for repeat in range(given.repeats)
            for engine in ENGINES
        ]
        compare(Path(scratch))
    if given.out:
        write_document(given.out, {"provenance": provenance("bench_batch.py", PACKAGES)}, runs)
    print("\n".join(table(runs)))
    return 0


def write_rows(folder: Path, scratch: Path, num_rows: int) -> str:
    """The project's test rows over and over, 100,000 a row group; the family of the deployed model."""
    project = Project.load(folder / "mlcluster.yaml")
    predictor = project.deployed()
    rows = project.snapshot().table("test").select(predictor.schema.feature_names)
    repeated = pa.concat_tables([rows] * -(-num_rows // rows.num_rows)).slice(0, num_rows)
    pq.write_table(repeated, scratch / "rows.parquet", row_group_size=CHUNK_ROWS)
    return str(predictor.bundle.card.family)


def run_engine(engine: str, project: Path, scratch: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", engine, "--project", str(project), "--scratch", str(scratch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{engine} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().split("\n")[-1])
    say(f"{engine:<8} {found['cpu_seconds']:.1f} CPU-s, {found['wall_seconds']:.1f} s, {found['peak_mib']:.0f} MiB")
    return found


def run_child(engine: str, folder: Path, scratch: Path) -> dict[str, Any]:
    from data_bench.measure import measure

    project = Project.load(folder / "mlcluster.yaml")
    if engine == "ours":
        from mlcluster.serve import batch  # noqa: F401  # imported before the clock starts

        return asdict(measure(lambda: project.score(str(scratch / "rows.parquet"), scratch / "ours.parquet", kept=[])))
    import mlflow.pyfunc
    import pandas as pd

    predictor = project.deployed()
    mlflow.set_tracking_uri(project.workspace.resolve_tracking(project.spec.tracking))
    model = mlflow.pyfunc.load_model(f"models:/{predictor.name}/{predictor.version}")

    def score() -> None:
        rows = pd.read_parquet(scratch / "rows.parquet")
        answers = [model.predict(rows.iloc[at : at + CHUNK_ROWS]) for at in range(0, len(rows), CHUNK_ROWS)]
        pd.DataFrame({"prediction": np.concatenate(answers)}).to_parquet(scratch / "pyfunc.parquet")

    return asdict(measure(score))


def compare(scratch: Path) -> None:
    ours, theirs = (
        pq.read_table(scratch / f"{engine}.parquet")["prediction"].to_pylist() for engine in reversed(ENGINES)
    )
    if ours != theirs:
        raise SystemExit(f"{sum(a != b for a, b in zip(ours, theirs, strict=True))} answers differ")
    say(f"all {len(ours):,} answers are equal")


def table(runs: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["| engine | CPU-s | wall s | rows a second | peak MiB |", "|---|---|---|---|---|"]
    medians = {}
    for engine in ENGINES:
        own = [run for run in runs if run["engine"] == engine]
        cpu, wall, peak = (
            statistics.median(run[key] for run in own) for key in ("cpu_seconds", "wall_seconds", "peak_mib")
        )
        medians[engine] = cpu, wall
        rate = own[0]["rows_millions"] * 1e6 / wall
        lines.append(f"| {engine} | {cpu:.1f} | {wall:.1f} | {rate:,.0f} | {peak:.0f} |")
    cpu, wall = (theirs / ours for theirs, ours in zip(medians["pyfunc"], medians["ours"], strict=True))
    return [*lines, f"ours ({runs[0]['family']}): {cpu:.1f} times fewer CPU-seconds, {wall:.1f} times as fast"]


if __name__ == "__main__":
    raise SystemExit(main())
