"""Real studies on real tables: our search against Ray Tune's default, for the same dollars.

    .venv/bin/python scripts/bench_studies.py --data ../shared/data --out studies.json --picture studies.svg \\
        [--datasets adult,bank_marketing] [--policies ours,ray-default] [--seeds 5] [--workers 2] \\
        [--minutes 10 | --usd U]
    .venv/bin/python scripts/bench_studies.py --out studies.json --seeds 0      the tables of a file that is there

Both train the same learners on the same rows, and pay for all workers from the first second to the last. Runs take
turns, and a run that is in the file already is not made again. Test scores are of the models that were best on
validation, trained once more when the search is over, which is not on the bill. A data set is one of the names below,
or the path of a project file (`data:`, `models:` and `tune.metric:` are what counts).

`ray-default` is ASHA and TPE as Ray has them; `ray-careful` also keeps its processes, and tries each family's defaults
first, as `ours` does.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench_files import provenance, say
from study_bench.datasets import DATASETS, Dataset, dataset_name, load_dataset
from study_bench.report import dollar_table, run_line, score_table
from study_bench.runs import (
    OURS,
    POLICY_NAMES,
    RAY_DEFAULT,
    Results,
    check_policies,
    facts_of,
    jobs_of,
    missing_jobs,
    read_results,
    run_job,
    write_results,
)
from study_bench.task import CPU_USD_PER_HOUR, Money

from mlcluster.cli.ray_local import LocalRay, disconnect
from mlcluster.errors import MlclusterError, SpecError

PACKAGES = ("mlcluster", "numpy", "scikit-learn", "torch", "ray", "optuna")


def main() -> int:
    given = arguments()
    try:
        money = money_of(given)
        results = compare(given, money)
        print("\n".join(score_table(results, budget_usd=money.usd)))
        print("", *dollar_table(results, budget_usd=money.usd), sep="\n")
        if given.picture is not None:
            from study_bench.picture import draw

            draw(given.picture, results, budget_usd=money.usd)
    except MlclusterError as error:
        say(f"bench_studies: {error}")
        return error.exit_code
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, default=Path("../shared/data"), help="the folder of the tables, as Parquet")
    add("--datasets", default=",".join(DATASETS), help=f"which, with commas between them: {', '.join(DATASETS)}")
    add("--policies", default=f"{OURS},{RAY_DEFAULT}", help=f"with commas between them: {', '.join(POLICY_NAMES)}")
    add("--workers", type=int, default=2)
    money = parser.add_mutually_exclusive_group()
    money.add_argument("--minutes", type=float, default=10.0, help="a search's budget; default 10")
    money.add_argument("--usd", type=float, help=f"the same in dollars, at ${CPU_USD_PER_HOUR:g} a CPU-hour")
    add("--seeds", type=int, default=5, help="searches a table and policy; 0 only shows what --out holds")
    add("--out", type=Path, required=True, help="write all runs to this JSON file, after each; go on where it ends")
    add("--picture", type=Path, help="draw best score against dollars to this SVG or PNG file")
    return parser.parse_args()


def money_of(given: argparse.Namespace) -> Money:
    """Raises SpecError where it buys nothing."""
    buys_nothing = given.minutes <= 0 or (given.usd is not None and given.usd <= 0)
    if given.workers < 1 or given.seeds < 0 or buys_nothing:
        raise SpecError(
            f"--workers = {given.workers}, --seeds = {given.seeds}, --minutes = {given.minutes:g} or "
            f"--usd = {given.usd} buys nothing; give numbers above 0."
        )
    if given.usd is not None:
        return Money.of_usd(given.usd, num_workers=given.workers)
    return Money(num_workers=given.workers, seconds=given.minutes * 60)


def compare(given: argparse.Namespace, money: Money) -> Results:
    """The runs that were asked for, and those of the file that were made before."""
    policies = given.policies.split(",")
    check_policies(policies)
    names = {dataset_name(name): name for name in given.datasets.split(",")}
    results = earlier(given.out, header(money)) if given.out.exists() else None
    results = results or Results(header=header(money), datasets={}, runs=[])
    jobs = missing_jobs(jobs_of(list(names), policies, num_seeds=given.seeds), results.runs)
    loaded: dict[str, Dataset] = {}
    with working_folder() as work, local_ray(work) as ray:
        for name in dict.fromkeys(job.dataset for job in jobs):
            loaded[name] = load_dataset(names[name], given.data, work)
            adopt(results, loaded[name], given.out)
        for number, job in enumerate(jobs, start=1):
            run = run_job(job, loaded[job.dataset], money, ray)
            results.runs.append(run)
            write_results(given.out, results)
            say(f"[{number}/{len(jobs)}] {run_line(run)}")
    if not results.runs:
        raise SpecError(f"--seeds = {given.seeds} makes no run, and {given.out} holds none; give more.")
    return results


def earlier(file: Path, wanted: dict[str, Any]) -> Results:
    """The runs of a file, which must have been made for the same money.

    Raises:
        SpecError: they were not.
    """
    results = read_results(file)
    for key in ("workers", "seconds", "cpu_usd_per_hour"):
        if results.header.get(key) != wanted[key]:
            raise SpecError(
                f"{key} = {wanted[key]} is not that of {file.name}, {results.header.get(key)}; "
                "compare like with like, or give another --out."
            )
    return results


def adopt(results: Results, dataset: Dataset, file: Path) -> None:
    """Notes what a table is; it must be the one that earlier runs of the file were made on.

    Raises:
        SpecError: it is another one.
    """
    known, found = results.datasets.get(dataset.name), facts_of(dataset)
    if known is not None and known.digest != found.digest:
        raise SpecError(
            f"--datasets = {dataset.name} is not the table that {file.name} was made on; give another --out."
        )
    results.datasets[dataset.name] = found


def header(money: Money) -> dict[str, Any]:
    """How to make the file again; it names no machine and no folder of one."""
    return {
        **provenance("bench_studies.py", PACKAGES),
        "workers": money.num_workers,
        "seconds": money.seconds,
        "usd": money.usd,
        "cpu_usd_per_hour": CPU_USD_PER_HOUR,
    }


@contextmanager
def working_folder() -> Iterator[Path]:
    """For snapshots and Ray's state, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="mlc-studies-") as folder:
        yield Path(folder)


@contextmanager
def local_ray(work: Path) -> Iterator[LocalRay]:
    """A Ray of our own, which is started at the first run and ended at the end."""
    os.environ.pop("RAY_ADDRESS", None)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Tune would take an interrupt as the wish to end a search early, and the search for a whole one.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    ray = LocalRay(work / "ray")
    try:
        yield ray
    finally:
        disconnect()
        ray.stop()


if __name__ == "__main__":
    sys.exit(main())
