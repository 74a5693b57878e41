"""`scripts/bench_release.py`: packing costs no time and saves nodes, and seeds say which search it is."""

from __future__ import annotations

from pathlib import Path

import bench_release
import pytest

from mlcluster.tune import load_benchmark


def outcome(folder: Path, *, seed: int, is_packed: bool) -> tuple[float, float]:
    benchmark = load_benchmark(folder / "lcbench")
    task = benchmark.task(benchmark.task_names[0])
    return bench_release.Search(task=task, seed=seed, num_nodes=4, slots=8, is_packed=is_packed).run()


def test_a_packed_search_ends_at_the_same_moment_and_is_billed_less(shared_benchmarks: Path) -> None:
    seconds, packed = outcome(shared_benchmarks, seed=0, is_packed=True)
    seconds_timed, timed = outcome(shared_benchmarks, seed=0, is_packed=False)
    assert seconds == pytest.approx(seconds_timed)
    assert 0 < packed < timed < 4 * seconds
    assert (seconds, packed) == outcome(shared_benchmarks, seed=0, is_packed=True)
    assert (seconds, packed) != outcome(shared_benchmarks, seed=1, is_packed=True)
