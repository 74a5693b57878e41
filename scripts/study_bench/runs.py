"""Runs policies on tables, and keeps what they came to as plain JSON."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench_files import read_document, write_document

from mlcluster.cli.ray_local import LocalRay, disconnect
from mlcluster.errors import SpecError
from mlcluster.train import METRICS
from study_bench.datasets import Dataset
from study_bench.retrain import largest_gap, retrain_all
from study_bench.task import Money, SearchTask
from study_bench.trace import Found, Improvement, improvements_of, with_tests

OURS, RAY_DEFAULT, RAY_CAREFUL = "ours", "ray-default", "ray-careful"
POLICY_NAMES = (OURS, RAY_DEFAULT, RAY_CAREFUL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One search that is to be made."""

    dataset: str
    seed: int
    policy: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One search that was made."""

    dataset: str
    policy: str
    seed: int
    usd: float
    """On the bill, as are the seconds: at most the budget."""
    seconds: float
    trials: int
    failed: int
    reports: int
    """Scores that the search has seen."""
    trace: list[Improvement]
    validation_gap: float
    """The most by which a model that was trained again differs on validation from what the search saw."""
    overhead_seconds: dict[str, float]
    """Not on the bill: `connect` to Ray, `search` beyond the budget, `test` for the scores on the test split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableFacts:
    """What a table of results must know of a table of data."""

    metric: str
    direction: str
    num_rows: dict[str, int]
    digest: str
    """Of the snapshot that was learnt from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """What a file holds."""

    header: dict[str, Any]
    datasets: dict[str, TableFacts]
    runs: list[Run]


def facts_of(dataset: Dataset) -> TableFacts:
    return TableFacts(
        metric=dataset.metric,
        direction=METRICS[dataset.metric].direction,
        num_rows=dict(dataset.num_rows),
        digest=dataset.digest,
    )


def jobs_of(datasets: Sequence[str], policies: Sequence[str], *, num_seeds: int) -> list[Job]:
    """Table by table and seed by seed, each policy in turn, so that a noisy hour of the machine hits all of them."""
    return [
        Job(dataset=dataset, seed=seed, policy=policy)
        for dataset in datasets
        for seed in range(num_seeds)
        for policy in policies
    ]


def missing_jobs(jobs: Sequence[Job], runs: Sequence[Run]) -> list[Job]:
    """Those that no run is of yet."""
    done = {(run.dataset, run.seed, run.policy) for run in runs}
    return [job for job in jobs if (job.dataset, job.seed, job.policy) not in done]


def check_policies(policies: Sequence[str]) -> None:
    """Raises SpecError where one is not known."""
    for policy in policies:
        if policy not in POLICY_NAMES:
            raise SpecError(f"--policies = {policy!r} is not known; take some of {', '.join(POLICY_NAMES)}.")


def search_of(policy: str) -> Callable[[SearchTask], Found]:
    """What makes a search. It imports Ray, which reads its token from the environment when it is imported."""
    if policy == OURS:
        from study_bench.own import run_ours

        return run_ours
    from study_bench.ray_default import run_ray_careful, run_ray_default

    return run_ray_default if policy == RAY_DEFAULT else run_ray_careful


def run_job(job: Job, dataset: Dataset, money: Money, ray: LocalRay) -> Run:
    """One search, connected to Ray anew so that no search finds workers or data of the one before."""
    began = time.perf_counter()
    ray.connect(num_cpus=money.num_workers)
    connect_seconds = time.perf_counter() - began
    try:
        with tempfile.TemporaryDirectory(prefix="mlc-study-") as folder:
            task = SearchTask(dataset=dataset, seed=job.seed, money=money, folder=Path(folder))
            return _searched(job, task, connect_seconds)
    finally:
        disconnect()


def write_results(file: Path, results: Results) -> None:
    """As `write_document` does."""
    datasets = {name: asdict(facts) for name, facts in results.datasets.items()}
    runs = (_rounded(asdict(run)) for run in results.runs)
    write_document(file, {"header": results.header, "datasets": datasets}, runs)


def read_results(file: Path) -> Results:
    """What `write_results` wrote.

    Raises:
        DataError: the file is missing or something else.
    """
    return read_document(
        file,
        lambda document: Results(
            header=document["header"],
            datasets={name: TableFacts(**facts) for name, facts in document["datasets"].items()},
            runs=[Run(**{**run, "trace": [Improvement(**one) for one in run["trace"]]}) for run in document["runs"]],
        ),
    )


def _searched(job: Job, task: SearchTask, connect_seconds: float) -> Run:
    metric, money = task.dataset.metric, task.money
    began = time.perf_counter()
    found = search_of(job.policy)(task)
    ended = time.perf_counter()
    trace = improvements_of(found.reports, metric, limit_seconds=money.seconds, usd_per_second=money.usd_per_second)
    scores = retrain_all(trace, task.dataset)
    return Run(
        dataset=job.dataset,
        policy=job.policy,
        seed=job.seed,
        usd=found.seconds * money.usd_per_second,
        seconds=found.seconds,
        trials=found.num_trials,
        failed=found.num_failed,
        reports=len(found.reports),
        trace=with_tests(trace, scores.test),
        validation_gap=largest_gap(trace, scores),
        overhead_seconds={
            "connect": connect_seconds,
            "search": ended - began - found.seconds,
            "test": time.perf_counter() - ended,
        },
    )


def _rounded(value: Any) -> Any:
    """Floats to nine digits, which is more than any of them means; configurations keep theirs, to be trained again."""
    if isinstance(value, dict):
        return {key: part if key == "configuration" else _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value
