"""`scripts/bench_scale.py` as a user runs it, on studies of a few trials."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import bench_scale
import pytest

ROOT = Path(__file__).resolve().parents[2]


def bench(*words: str) -> list[str]:
    command = [sys.executable, str(ROOT / "scripts" / "bench_scale.py"), *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=env, timeout=100)
    return done.stdout.splitlines()


def job(*, num_workers: int = 4, seed: int = 0, first_rung_seconds: float = 60.0, is_free: bool = True) -> object:
    return bench_scale.Job(
        policy="halving-random",
        num_workers=num_workers,
        num_trials=30,
        first_rung_seconds=first_rung_seconds,
        seed=seed,
        is_free=is_free,
        is_cpu=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_table_has_a_line_a_policy_and_number_of_workers() -> None:
    lines = bench("--policies", "promise,halving", "--workers", "2,5", "--trials", "12", "--free-decisions")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert rows[0] == list(bench_scale.COLUMNS)
    shown = [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]
    asked = [(policy, workers) for policy in ("promise", "halving") for workers in ("2", "5")]
    assert [(row["policy"], row["workers"]) for row in shown] == asked
    assert all(row["trials"] == "12" and int(row["decisions"]) >= 12 for row in shown)
    assert len({line.split(": ")[1] for line in lines if ": " in line}) == 4


def test_a_seed_gives_one_journal_and_another_seed_another() -> None:
    first, again, other = (bench_scale.run(job(seed=seed)) for seed in (0, 0, 1))
    assert first.journal_sha256 == again.journal_sha256 != other.journal_sha256
    assert first.num_trials == 30
    assert first.journal_bytes > 0


def test_workers_wait_for_decisions_that_take_time_and_only_for_those() -> None:
    free = bench_scale.run(job(num_workers=10))
    # Trainings of no time at all: workers do nothing but wait for the one driver.
    paid = bench_scale.run(job(num_workers=10, first_rung_seconds=1e-6, is_free=False))
    assert free.waited_seconds == 0.0
    assert paid.waited_seconds > 0.9 * (paid.waited_seconds + paid.trained_seconds)
    # Ten wait in turn, so that each decision is waited for several times.
    assert paid.waited_seconds > 2 * sum(paid.decision_seconds)
