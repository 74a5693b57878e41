"""`scripts/bench_search.py` as a user runs it, on a benchmark that takes no time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from search_bench.policies import POLICY_NAMES

from tests.tune.benchmark_folders import write_surrogate, write_table

ROOT = Path(__file__).resolve().parents[2]

QUICK = "random,asha-promotion,hyperband"
ALL = f"{QUICK},ours,asha-stopping,ray-default,optuna-hyperband,optuna-default"
OPTIONAL = {"syne_tune": "syne-bohb,syne-cqr", "flaml": "flaml-cfo,flaml-blendsearch", "dehb": "dehb"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("benchmarks") / "tiny-table")


def bench(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "bench_search.py", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def run_small(table: Path, out: Path, *words: str | Path, policies: str = QUICK) -> dict[str, Any]:
    done = bench(
        *("--benchmark", table, "--policies", policies, "--workers", 3, "--budget", 6, "--seeds", 3),
        *("--out", out, *words),
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(out.read_text())
    return {**document, "stdout": done.stdout, "stderr": done.stderr}


def lines_of(stdout: str) -> dict[str, list[str]]:
    """The cells of each policy's line."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in stdout.splitlines() if "|" in line]
    return {cells[0]: cells[1:] for cells in rows}


def test_every_installed_peer_runs_and_none_bills_more_than_its_budget(table: Path, tmp_path: Path) -> None:
    found = run_small(table, tmp_path / "runs.json", "--picture", tmp_path / "picture.svg", "--verbose", policies=ALL)
    lines = lines_of(found["stdout"])
    for policy in ALL.split(","):
        runs = [run for run in found["runs"] if run["policy"] == policy]
        assert [(run["task"], run["seed"]) for run in runs] == [
            (f"tiny-table/{task}", seed) for task in ("easy", "hard") for seed in range(3)
        ]
        assert all(0 < run["billed"] <= 6 for run in runs)
        assert all(run["trials"] > 1 and run["decisions"] >= run["trials"] for run in runs)
        assert lines[policy][-1] == "2 x 3"
    assert lines["asha-promotion"][0] == "1.00 (1.00 to 1.00)"
    assert "| tiny-table/hard |" in found["stdout"]
    assert "random on easy: " in found["stderr"]
    picture = (tmp_path / "picture.svg").read_text()
    assert picture.startswith("<?xml")
    assert str(tmp_path) not in json.dumps(found["header"])
    assert found["header"]["versions"]["ray"]


@pytest.mark.parametrize("library", OPTIONAL)
def test_a_peer_that_is_not_a_dependency_runs_where_its_library_is_installed(
    table: Path, tmp_path: Path, library: str
) -> None:
    pytest.importorskip(library, reason=f"{library} is not installed: it is no dependency of ours")
    found = run_small(table, tmp_path / "runs.json", policies=OPTIONAL[library])
    assert {run["policy"] for run in found["runs"]} == set(OPTIONAL[library].split(","))
    assert all(0 < run["billed"] <= 6 for run in found["runs"])


def test_one_command_gives_one_result_and_seeds_differ(table: Path, tmp_path: Path) -> None:
    first = run_small(table, tmp_path / "a.json", "--free-decisions", policies=ALL)
    again = run_small(table, tmp_path / "b.json", "--free-decisions", policies=ALL)
    assert first["runs"] == again["runs"]
    assert first["stdout"] == again["stdout"]
    for policy in ALL.split(","):
        traces = [
            str(run["trace"]) for run in first["runs"] if (run["policy"], run["task"]) == (policy, "tiny-table/easy")
        ]
        assert len(set(traces)) == 3, policy


def test_a_warm_search_learns_from_the_other_tasks_alone(table: Path, tmp_path: Path) -> None:
    found = run_small(
        table, tmp_path / "warm.json", "--warm-from", table, "--free-decisions", policies="ours,ours-warm"
    )
    traces = {
        policy: [run["trace"] for run in found["runs"] if run["policy"] == policy] for policy in ("ours", "ours-warm")
    }
    assert len(traces["ours-warm"]) == len(traces["ours"]) == 6
    assert traces["ours-warm"] != traces["ours"]
    assert all(0 < run["billed"] <= 6 for run in found["runs"])


def test_runs_that_end_where_they_arrive_have_cost_the_same_until_there(table: Path, tmp_path: Path) -> None:
    whole = run_small(table, tmp_path / "a.json", "--free-decisions")
    ended = run_small(table, tmp_path / "b.json", "--free-decisions", "--stop-at", "q95")
    assert [run["q95"] for run in ended["runs"]] == [run["q95"] for run in whole["runs"]]
    assert sum(run["billed"] for run in ended["runs"]) < sum(run["billed"] for run in whole["runs"])


def test_our_policy_runs_without_each_of_its_parts(table: Path, tmp_path: Path) -> None:
    ablations = [name for name in POLICY_NAMES if name.startswith("ours:")]
    assert len(ablations) == 10
    found = run_small(table, tmp_path / "a.json", "--free-decisions", policies=",".join(["ours", *ablations]))
    traces = {}
    for run in found["runs"]:
        assert 0 < run["billed"] <= 6
        traces.setdefault(run["policy"], []).append(run["trace"])
    assert traces["ours:no-early-stop"] != traces["ours"] != traces["ours:no-curve-model"]


def test_two_processes_find_what_one_does(table: Path, tmp_path: Path) -> None:
    alone = run_small(table, tmp_path / "a.json", "--free-decisions")
    shared = run_small(table, tmp_path / "b.json", "--free-decisions", "--processes", 2)

    def in_order(found: dict[str, Any]) -> list[dict[str, Any]]:
        return sorted(found["runs"], key=lambda run: (run["policy"], run["task"], run["seed"]))

    assert in_order(alone) == in_order(shared)


def test_policies_of_one_seed_see_the_same_configurations(table: Path, tmp_path: Path) -> None:
    found = run_small(table, tmp_path / "a.json", "--free-decisions", "--workers", 1)
    first = {
        run["policy"]: run["trace"][0] for run in found["runs"] if (run["task"], run["seed"]) == ("tiny-table/easy", 0)
    }
    assert first["random"] == first["asha-promotion"] == first["hyperband"]


def test_files_of_several_benchmarks_come_together_in_one_table(table: Path, tmp_path: Path) -> None:
    surrogate = write_surrogate(tmp_path / "tiny-surrogate")
    run_small(table, tmp_path / "a.json")
    run_small(surrogate, tmp_path / "b.json", "--tasks", "one")
    words = ("--with", tmp_path / "a.json", "--with", tmp_path / "b.json", "--workers", 3, "--budget", 6)
    done = bench(*words, "--picture", tmp_path / "both.png")
    assert done.returncode == 0, done.stderr
    assert lines_of(done.stdout)["random"][-1] == "3 x 3"
    assert (tmp_path / "both.png").stat().st_size > 1000
    other_money = bench("--with", tmp_path / "a.json", "--workers", 3, "--budget", 7)
    assert other_money.returncode == 2
    assert "--budget = 7.0 is not that of" in other_money.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--policies", "rndom"], "--policies = 'rndom' is not known; take some of random, asha-promotion"),
        (
            ["--policies", "random", "--tasks", "esay"],
            "task = 'esay' is not in the benchmark tiny-table; take one of easy",
        ),
        (["--policies", "ours-warm"], "give a benchmark's folder as --warm-from"),
        (["--policies", "random", "--seeds", "0"], "--seeds = 0"),
        (["--policies", "random", "--budget", "0"], "budget_c = 0.0 buys nothing"),
        ([], "nothing to compare; give one of them"),
        (["--with", "absent.json"], "absent.json is no file of results"),
    ],
)
def test_a_wrong_word_is_answered_in_one_line(table: Path, words: list[str], complaint: str) -> None:
    done = bench("--benchmark", table, *words)
    assert done.returncode == 2
    assert done.stderr.startswith("bench_search: ")
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_folder_that_is_not_there_is_told_its_neighbours(table: Path) -> None:
    done = bench("--benchmark", table.parent / "tiny-tabel", "--policies", "random")
    assert done.returncode == 2
    assert "beside it there are tiny-table" in done.stderr
