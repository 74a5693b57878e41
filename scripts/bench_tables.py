"""Runs the whole line on real tables and prints what it reached, in how many seconds, for how many dollars.

    .venv/bin/python scripts/bench_tables.py --data ../shared/data [--tables adult,bike] [--seed 0] [--out FILE.json]

Each table is a project of its own in a temporary folder; its endpoint is asked one question and ended.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

TABLES: dict[str, tuple[str, str]] = {
    "adult": (
        "roc_auc",
        """
project: income
data:
  source: {data}/adult.parquet
  target: income
  exclude: [fnlwgt]
  sensitive: [sex, race]
  split: {{column: split}}
  expect: {{age: 0..120}}
  bad_rows: quarantine
tune:
  metric: roc_auc
  budget: {{usd: 0.20, minutes: 10}}
  prefer_simple_within: 0.002
  limits: {{p99_ms: 20, model_mb: 20}}
prices: {{cpu_hour: 0.05, gpu_hour: 2.00}}
verify: [roc_auc >= 0.90, recall by sex >= 0.50, equal_opportunity by sex <= 0.15, certified(eps=0.01) >= 0.80]
""",
    ),
    "bike": (
        "r2",
        """
project: bike
data:
  source: {data}/bike_sharing_hourly.parquet
  target: cnt
  time: dteday
  exclude: [instant, casual, registered]
tune: {{budget: {{usd: 0.05, minutes: 2}}}}
verify: [r2 >= 0.75]
""",
    ),
    "electricity": (
        "accuracy",
        """
project: electricity
data:
  source: {data}/electricity_elec2.parquet
  target: class
  time: t
tune: {{metric: roc_auc, budget: {{usd: 0.05, minutes: 2}}}}
verify: [accuracy >= 0.60]
""",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the tables")
    parser.add_argument("--tables", default=",".join(TABLES), help="which, with commas between them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--out", type=Path, help="write all summaries to this file")
    given = parser.parse_args()
    summaries = {name: run_table(name, given) for name in given.tables.split(",")}
    print("| table | family | test score | baseline | trials | seconds | dollars (forecast) |")
    print("|---|---|---|---|---|---|---|")
    for name, summary in summaries.items():
        print(row(name, summary))
    if given.out is not None:
        given.out.write_text(json.dumps(summaries, indent=1))


def run_table(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """The summary that `mlcluster run --json` prints for one table."""
    mlcluster = [sys.executable, "-m", "mlcluster.cli.main"]
    with tempfile.TemporaryDirectory() as folder:
        spec = TABLES[name][1].format(data=given.data.resolve())
        (Path(folder) / "mlcluster.yaml").write_text(spec)
        try:
            command = [*mlcluster, "run", "--json", f"--seed={given.seed}", f"--port={given.port}"]
            done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
            summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            with urllib.request.urlopen(f"{summary['endpoint']}/v2/health/ready") as answer:
                assert answer.status == 200
        finally:
            subprocess.run([*mlcluster, "down"], cwd=folder, check=False)
    return summary


def row(name: str, summary: dict[str, Any]) -> str:
    """One line of the table."""
    measure = TABLES[name][0]
    baseline = summary["baseline"]["test"].get(measure)
    shown = "" if baseline is None else f"{baseline:.3f}"
    return (
        f"| {name} | {summary['family']} | {measure} {summary['test'][measure]:.4f} | {shown} | {summary['trials']} "
        f"| {summary['seconds']:.0f} | {summary['spent_usd']:.4f} ({summary['forecast_usd']:.4f}) |"
    )


if __name__ == "__main__":
    main()
