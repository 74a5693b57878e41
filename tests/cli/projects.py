"""Projects to run the command line on, and the command line itself: within this process, or as a process of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlcluster.cli.main import main
from mlcluster.cli.records import study_to_json
from mlcluster.cli.workspace import RunFolder, write_json
from mlcluster.tune import StudyResult, VirtualClock, simulate_study
from tests.tune.studies import open_study, paced, synthetic_plan

ROOT = Path(__file__).resolve().parents[2]
MLCLUSTER = (sys.executable, "-m", "mlcluster.cli.main")
PROCESS_SECONDS = 150.0
"""No process of a test lasts longer."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command came to."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The last line of stdout."""
        return json.loads(self.stdout.splitlines()[-1])

    @property
    def complaint(self) -> str:
        """The one line that a refused command leaves on stderr."""
        lines = self.stderr.splitlines()
        assert len(lines) == 1, self.stderr
        assert self.stdout == ""
        return lines[0].removeprefix("mlcluster: ")


def run_here(folder: Path, *words: str) -> Outcome:
    """Runs the command line in this process, in `folder`: for verbs that start nothing."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            main(words)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    return Outcome(code=code, stdout=stdout.getvalue(), stderr=stderr.getvalue())


def run_process(folder: Path, *words: str, **more: Any) -> Outcome:
    """Runs the command line as a process of its own; `more` are `command`, `env` and `timeout`."""
    command: Sequence[str] = more.get("command", MLCLUSTER)
    done = subprocess.run(
        [*command, *words],
        cwd=folder,
        env=environment(more.get("env", {})),
        capture_output=True,
        text=True,
        check=False,
        timeout=more.get("timeout", PROCESS_SECONDS),
    )
    return Outcome(code=done.returncode, stdout=done.stdout, stderr=done.stderr)


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Of a process that is to find no other Ray than the one it is told of."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLCLUSTER_"))}
    return {**clean, "RAY_USAGE_STATS_ENABLED": "0", **(more or {})}


def free_ports(count: int) -> list[int]:
    """Free ports, all different, outside of the range that Ray gives its workers (10002 to 19999)."""
    found: list[socket.socket] = []
    passed_over: list[socket.socket] = []
    while len(found) < count:
        probe = socket.socket()
        probe.bind(("127.0.0.1", 0))
        (passed_over if 10000 <= probe.getsockname()[1] < 20000 else found).append(probe)
    ports = [probe.getsockname()[1] for probe in found]
    for probe in [*found, *passed_over]:
        probe.close()
    return ports


def small_table(num_rows: int = 120) -> pa.Table:
    """A table with every kind of column, in which `answer` follows from `size` and `colour`."""
    rng = np.random.default_rng(0)
    size = rng.normal(size=num_rows)
    colour = rng.choice(["red", "green", "blue"], size=num_rows)
    answer = np.where(size + (colour == "red") + rng.normal(scale=0.5, size=num_rows) > 0.3, "yes", "no")
    return pa.table(
        {
            "size": size,
            "count": rng.integers(0, 9, size=num_rows),
            "colour": colour,
            "is_new": rng.random(num_rows) > 0.5,
            "answer": answer,
            "amount": size * 3 + rng.normal(size=num_rows),
            "empty": pa.array([None] * num_rows, pa.string()),
            "constant": ["same"] * num_rows,
        }
    )


def make_project(folder: Path, text: str, table: pa.Table | None = None) -> Path:
    """A project of `small_table` and this project file; gives its folder."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    pq.write_table(small_table() if table is None else table, folder / "data" / "table.parquet")
    (folder / "mlcluster.yaml").write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
    return folder


def plant_study(folder: Path, *, num_trials: int = 30) -> StudyResult:
    """Gives the project in `folder` a run whose search is done: a simulated study of two families, two slots, $1."""
    run = RunFolder(path=folder / ".mlcluster" / "runs" / "0001-0123456789ab")
    plan = synthetic_plan(families=("linear", "boosting"), num_slots=2, max_trials=num_trials)
    clock = VirtualClock(1_000.0)
    study, ledger = open_study(plan, run.path, cap_usd=1.0, clock=clock)
    result = simulate_study(study, paced, clock)
    ledger.close()
    (run.path / "ledger.jsonl").rename(run.ledger_path())
    write_json(run.study / "result.json", study_to_json(result))
    run.update(tune="done", forecast={"tune": 0.5})
    return result


@contextlib.contextmanager
def demo_in(folder: Path, name: str = "demo") -> Iterator[Path]:
    """The project that `init` makes in `folder`; what commands have left running for it is ended at the end."""
    run_here(folder, "init", name)
    try:
        yield folder / name
    finally:
        end_ray_of(folder / name)


def end_ray_of(folder: Path) -> None:
    """Ends what a command has left running for the project in `folder`."""
    from mlcluster.cli.ray_local import LocalRay

    LocalRay(folder / ".mlcluster" / "ray").stop()
