"""Learns the portfolio that ships with mlcluster: what to try first on data not seen yet.

    .venv/bin/python scripts/learn_portfolio.py --data ../shared/data --minutes 1 --histories FOLDER \
        --out mlcluster/tune/portfolio.json

One cold study of all families on each task below, each a project of its own in a temporary folder; what a study leaves
for later ones is kept in `--histories`, and a task whose file is there is not run again. From these the portfolio of
each kind of task is learnt (`mlcluster.search.learn_portfolio`). Several tasks share a table, with another target: what
is learnt is to hold for data sets that are not among them, so they should differ. `--leave-out` gives a portfolio
without the tables named, to measure on these.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import sklearn.datasets
import yaml

from mlcluster.search import PORTFOLIO_SIZE, PastStudy, learn_portfolio
from mlcluster.spec import DEFAULT_FAMILIES
from mlcluster.train import FAMILIES
from mlcluster.tune import past_study_from_json


@dataclass(frozen=True, kw_only=True)
class Task:
    """A table and what is to be learned from it; a table without a file is one of scikit-learn's."""

    table: str
    target: str
    kind: str
    time: str | None = None
    exclude: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.table}-{self.target}"


CLASSES, VALUES = "classification", "regression"
TASKS = (
    Task(table="adult", target="income", kind=CLASSES, exclude=("fnlwgt", "split")),
    Task(table="adult", target="marital_status", kind=CLASSES, exclude=("fnlwgt", "split", "relationship")),
    Task(table="bank_marketing", target="y", kind=CLASSES, exclude=("duration",)),
    Task(table="bank_marketing", target="housing", kind=CLASSES, exclude=("duration",)),
    Task(table="electricity_elec2", target="class", kind=CLASSES, time="t"),
    Task(table="bike_sharing_hourly", target="weathersit", kind=CLASSES, exclude=("instant", "dteday")),
    Task(table="breast_cancer", target="target", kind=CLASSES),
    Task(table="digits", target="target", kind=CLASSES),
    Task(table="wine", target="target", kind=CLASSES),
    Task(
        table="bike_sharing_hourly",
        target="cnt",
        kind=VALUES,
        time="dteday",
        exclude=("instant", "casual", "registered"),
    ),
    Task(table="bike_sharing_hourly", target="temp", kind=VALUES, exclude=("instant", "dteday", "atemp")),
    Task(table="adult", target="hours_per_week", kind=VALUES, exclude=("fnlwgt", "split")),
    Task(table="adult", target="age", kind=VALUES, exclude=("fnlwgt", "split")),
    Task(table="bank_marketing", target="age", kind=VALUES, exclude=("duration",)),
    Task(table="electricity_elec2", target="nswprice", kind=VALUES, time="t", exclude=("class",)),
    Task(table="diabetes", target="target", kind=VALUES),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the tables")
    parser.add_argument("--minutes", type=float, default=1.0, help="of search on each task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--histories", type=Path, required=True, help="where past studies are kept")
    parser.add_argument("--leave-out", default="", help="tables that are not learnt from, with commas between them")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.histories.mkdir(parents=True, exist_ok=True)
    left_out = set(filter(None, given.leave_out.split(",")))
    tasks = [task for task in TASKS if task.table not in left_out]
    for number, task in enumerate(tasks, start=1):
        file = given.histories / f"{task.name}.json"
        if not file.exists():
            file.write_text(run_study(task, given))
        print(
            f"{number} of {len(tasks)}: {task.name}, {len(json.loads(file.read_text())['trials'])} trials", flush=True
        )
    given.out.write_text(json.dumps(learn(tasks, given), indent=1) + "\n")


def run_study(task: Task, given: argparse.Namespace) -> str:
    """The past study of one task, as `mlcluster tune` leaves it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        read_table(task, given.data).to_parquet(folder / "table.parquet")
        (folder / "mlcluster.yaml").write_text(yaml.safe_dump(project(task, given.minutes)))
        mlcluster = [sys.executable, "-m", "mlcluster.cli.main"]
        try:
            subprocess.run([*mlcluster, "tune", f"--seed={given.seed}", "--json"], cwd=folder, check=True)
        finally:
            subprocess.run([*mlcluster, "down"], cwd=folder, check=False, stdout=subprocess.DEVNULL)
        return next(folder.glob(".mlcluster/runs/*/study/past_study.json")).read_text()


def read_table(task: Task, data: Path) -> pd.DataFrame:
    """Rows whose target is missing are left out."""
    file = data / f"{task.table}.parquet"
    if file.exists():
        return pd.read_parquet(file).dropna(subset=[task.target])
    loaded = getattr(sklearn.datasets, f"load_{task.table}")(as_frame=True)
    return pd.DataFrame(loaded.frame).rename(columns=lambda column: column.replace(" ", "_"))


def project(task: Task, minutes: float) -> Mapping[str, Any]:
    """A project file; a budget that only the minutes end."""
    data = {
        "source": "table.parquet", "target": task.target, "task": task.kind,
        "exclude": list(task.exclude), "bad_rows": "quarantine",
    }  # fmt: skip
    return {
        "project": task.table,
        "data": {**data, **({"time": task.time} if task.time else {})},
        "tune": {"budget": {"usd": 1.0, "minutes": minutes}, "warm_start": "none"},
    }


def learn(tasks: list[Task], given: argparse.Namespace) -> Mapping[str, Any]:
    """What is shipped, with how it was made."""
    spaces = {name: FAMILIES[name].space for name in DEFAULT_FAMILIES}
    portfolios = {}
    for kind in (CLASSES, VALUES):
        files = [given.histories / f"{task.name}.json" for task in tasks if task.kind == kind]
        read = (past_study_from_json(json.loads(file.read_text()), spaces) for file in files)
        studies: list[PastStudy] = [study for study in read if study is not None]
        found = learn_portfolio(studies, spaces, seed=given.seed, size=PORTFOLIO_SIZE)
        portfolios[kind] = [{"family": one.family, "configuration": one.configuration} for one in found]
    return {
        "learnt_by": f"scripts/learn_portfolio.py --minutes {given.minutes:g} --seed {given.seed}",
        "learnt_on": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "tasks": [task.name for task in tasks],
        "portfolios": portfolios,
    }


if __name__ == "__main__":
    main()
