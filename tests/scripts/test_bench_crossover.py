"""`scripts/bench_crossover.py`: where two curves of dollars meet, and its tables as a user has them printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import bench_crossover
import pytest
import torch

from mlcluster.cost import PriceBook, cpu_workers, gpu_workers

ROOT = Path(__file__).resolve().parents[2]
PRICES = PriceBook(cpu_usd_per_hour=0.05, gpu_usd_per_hour=0.35)
KINDS = (cpu_workers(PRICES, num_slots=1), gpu_workers(PRICES, num_slots=1))
"""A second of a GPU's slot costs as much as eight of a core's."""


def bench(*words: str) -> list[str]:
    command = [sys.executable, str(ROOT / "scripts" / "bench_crossover.py"), *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=env, timeout=100)
    return done.stdout.splitlines()


def epochs(cpu: dict[int, float], gpu: float) -> list[bench_crossover.Epoch]:
    """Of widths that take so long on a core, and as long as each other on a GPU."""
    return [
        bench_crossover.Epoch(width=width, measured={"cpu": seconds, "gpu": gpu}, estimated={"cpu": 1.0, "gpu": 1.0})
        for width, seconds in cpu.items()
    ]


def test_the_measured_crossover_lies_where_the_dollars_are_equal() -> None:
    # A core's seconds grow as the width; eight GPU seconds' worth of them are reached at width 32.
    assert bench_crossover.measured_crossover(epochs({16: 4.0, 64: 16.0}, gpu=1.0), KINDS) == 32
    assert bench_crossover.measured_crossover(epochs({16: 40.0, 64: 160.0}, gpu=1.0), KINDS) == 16
    assert bench_crossover.measured_crossover(epochs({16: 0.4, 64: 1.6}, gpu=1.0), KINDS) is None


def test_errors_of_the_estimates_are_told_as_factors() -> None:
    told = bench_crossover.error_line(epochs({8: 1.0, 16: 2.0, 32: 4.0}, gpu=0.5), "cpu")
    assert told == "cpu: measured is 2.00 times the estimate in the median (1.00 to 4.00), log error 0.57"
    told = bench_crossover.error_line(epochs({8: 1.0, 16: 2.0}, gpu=0.5), "gpu")
    assert told == "gpu: measured is 0.50 times the estimate in the median (0.50 to 0.50), log error 0.00"


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("family", bench_crossover.NETS)
def test_a_table_has_a_line_a_net_and_ends_with_crossovers_and_errors(family: str) -> None:
    few = ("--rows", "128", "--columns", "4", "--side", "6", "--layers", "1", "--repeats", "1", "--epochs", "2")
    lines = bench("--family", family, *few)
    nets = bench_crossover.NETS[family]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")][2:]
    asked = [(str(batch), str(width)) for batch in nets.batch_sizes for width in nets.widths]
    assert [tuple(row[:2]) for row in rows] == asked
    assert all(float(row[2]) > 0 and float(row[6]) > 0 and float(row[7]) > 0 for row in rows)
    devices = ["cpu", "gpu"] if torch.cuda.is_available() else ["cpu"]
    assert all((row[3] == "-") == (len(devices) == 1) for row in rows)
    behind = lines[3 + len(asked) :]
    assert [line.split(":")[0] for line in behind] == [*(f"batch {size}" for size in nets.batch_sizes), *devices]
    assert all(
        "; measured on the core only" in line for line in behind if line.startswith("batch") and devices == ["cpu"]
    )


@pytest.mark.slow
def test_arguments_that_leave_nothing_to_measure_are_refused() -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        bench("--layers", "0")
    assert "--layers = 0 leaves no layer of any width; give 1 or more." in refused.value.stderr
