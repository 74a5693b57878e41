"""What search policies cost until they find a good model, on recorded curves and a virtual clock.

    .venv/bin/python scripts/bench_search.py --benchmark ../shared/benchmarks/lcbench --policies asha-promotion,ours \\
        [--tasks 3945,7593] [--workers 8] [--budget 60] [--seeds 20] [--out FILE.json] [--picture FILE.svg] [--verbose]
        [--stop-at q99]
    .venv/bin/python scripts/bench_search.py --with A.json --with B.json      the table of files that --out has written

Costs are in C, one full training of an average random configuration. Billed cost is workers x wall clock, idle workers
and the real seconds of the policy's decisions included. Q99 is the quality of the best 1 % of random configurations; a
run that does not reach it counts as its whole budget.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bench_files import provenance, say
from search_bench.picture import draw
from search_bench.policies import OURS_WARM, POLICY_NAMES, policy_factory
from search_bench.report import score_table, task_table
from search_bench.runs import Job, Results, Run, do_all, facts_of, read_results, write_results
from search_bench.score import median_cost_c

from mlcluster.errors import MlclusterError, SpecError
from mlcluster.tune import SearchSettings, load_benchmark

PACKAGES = ("mlcluster", "numpy", "onnxruntime", "ray", "optuna")


def main() -> int:
    given = arguments()
    try:
        results = compare(given)
        if given.picture is not None:
            draw(given.picture, results, budget_c=given.budget)
    except MlclusterError as error:
        say(f"bench_search: {error}")
        return error.exit_code
    print("\n".join(score_table(results.runs, budget_c=given.budget)))
    if given.verbose:
        print("", *task_table(results.runs, budget_c=given.budget), sep="\n")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--benchmark", type=Path, help="the folder of a benchmark")
    add("--tasks", default="", help="which of its tasks, with commas between them; all by default")
    add("--policies", default="", help=f"which to run, with commas between them: {', '.join(POLICY_NAMES)}")
    add("--workers", type=int, default=8)
    add("--budget", type=float, default=60.0, metavar="C", help="a run's hard budget, in average full trainings")
    add("--seeds", type=int, default=20, help="runs a task; policies are paired by seed")
    add("--out", type=Path, help="write all runs to this JSON file, after each task")
    add("--with", type=Path, action="append", default=[], dest="others", metavar="FILE", help="add runs of such a file")
    add("--warm-from", type=Path, help=f"a benchmark on whose other tasks {OURS_WARM} has searched before")
    add("--picture", type=Path, help="draw best value against billed cost to this SVG or PNG file")
    add("--stop-at", choices=("q95", "q99", "q999"), help="end a run once it has reached that quality")
    add("--processes", type=int, default=1, help="above 1, decisions are timed on a busier machine")
    add("--free-decisions", action="store_true", help="leave decision time out, so that runs repeat to the last digit")
    add("--verbose", action="store_true", help="a table of medians a task, too")
    return parser.parse_args()


def compare(given: argparse.Namespace) -> Results:
    """The runs that were asked for, and those of earlier files."""
    jobs = plan(given)
    results = Results(header=header(given), tasks={}, runs=[])
    for file in given.others:
        adopt(results, read_results(file), given, file)
    done = {(run.policy, run.task, run.seed): run for run in results.runs}
    if jobs:
        benchmark = load_benchmark(given.benchmark)
        for task in dict.fromkeys(job.task for job in jobs):
            results.tasks[f"{benchmark.name}/{task}"] = facts_of(benchmark, task)
    for job, runs, seconds in do_all(jobs, num_processes=given.processes):
        done.update({(run.policy, run.task, run.seed): run for run in runs})
        results.runs[:] = done.values()
        tell_progress(job, runs, seconds)
        if given.out is not None:
            write_results(given.out, results)
    if not results.runs:
        raise SpecError("neither --policies nor --with is given, so there is nothing to compare; give one of them.")
    return results


def plan(given: argparse.Namespace) -> list[Job]:
    """What is to be run, checked before anything starts."""
    policies = [name for name in given.policies.split(",") if name]
    if not policies:
        return []
    if given.benchmark is None:
        raise SpecError("--benchmark is not given, and --policies need one; give a folder with a benchmark.json.")
    if OURS_WARM in policies and given.warm_from is None:
        raise SpecError(f"--policies = {OURS_WARM} needs earlier searches; give a benchmark's folder as --warm-from.")
    if given.seeds < 1 or given.processes < 1:
        raise SpecError(f"--seeds = {given.seeds} and --processes = {given.processes} must both be at least 1.")
    settings = SearchSettings(num_workers=given.workers, budget_c=given.budget, stop_at=given.stop_at)
    benchmark = load_benchmark(given.benchmark)
    tasks = [name for name in given.tasks.split(",") if name] or benchmark.task_names
    for policy in policies:
        policy_factory(policy)
    for task in tasks:
        benchmark.task(task)
    return [
        Job(
            folder=given.benchmark,
            policy=policy,
            task=task,
            num_seeds=given.seeds,
            settings=settings,
            is_free=given.free_decisions,
            warm_from=given.warm_from,
        )
        for policy in policies
        for task in tasks
    ]


def adopt(results: Results, other: Results, given: argparse.Namespace, file: Path) -> None:
    """Adds the runs of a file, which must have been made for the same money."""
    for key, value in (("workers", given.workers), ("budget", given.budget)):
        if other.header.get(key) != value:
            raise SpecError(
                f"--{key} = {value} is not that of {file}, {other.header.get(key)}; compare like with like."
            )
    results.tasks.update(other.tasks)
    results.runs.extend(other.runs)
    results.header.setdefault("with", []).append(other.header)


def header(given: argparse.Namespace) -> dict[str, Any]:
    """How to make the file again; it names no machine and no folder of one."""
    return {
        **provenance("bench_search.py", PACKAGES),
        "workers": given.workers,
        "budget": given.budget,
        "stop_at": given.stop_at,
        "free_decisions": given.free_decisions,
    }


def tell_progress(job: Job, runs: list[Run], seconds: float) -> None:
    arrived = sum(run.q99 is not None for run in runs)
    cost = median_cost_c(runs, job.policy, runs[0].task, budget_c=job.settings.budget_c)
    say(f"{job.policy} on {job.task}: {arrived} of {len(runs)} reach Q99, median {cost:.1f} C; took {seconds:.1f} s")


if __name__ == "__main__":
    sys.exit(main())
