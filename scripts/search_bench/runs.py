"""Runs policies on tasks, and keeps what they came to as plain JSON."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from bench_files import read_document, write_document

from mlcluster.tune import Benchmark, SearchRun, SearchSettings, free_decisions, load_benchmark, simulate_search
from search_bench.policies import OURS_WARM, policy_factory
from search_bench.seeds import run_seed
from search_bench.task import PastStudy, PolicyTask
from search_bench.warm import past_studies


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One policy on one task under one seed; costs in C, None where the quantile was not reached."""

    policy: str
    task: str
    """`benchmark/task`."""
    seed: int
    q95: float | None
    q99: float | None
    q999: float | None
    billed: float
    decision_seconds: float
    median_decision_ms: float
    decisions: int
    trials: int
    trace: list[list[float]]
    """[billed, best loss so far] at each improvement."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskFacts:
    """What a picture must know of a task."""

    metric: str
    direction: str
    q99_loss: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """What a file holds."""

    header: dict[str, Any]
    tasks: dict[str, TaskFacts]
    runs: list[Run]


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """All seeds of one policy on one task."""

    folder: Path
    policy: str
    task: str
    num_seeds: int
    settings: SearchSettings
    is_free: bool
    """Leaves decision time out of the bill."""
    warm_from: Path | None = None


@cache
def _benchmark(folder: Path) -> Benchmark:
    return load_benchmark(folder)


def facts_of(benchmark: Benchmark, task: str) -> TaskFacts:
    """Raises SpecError where there is no such task."""
    return TaskFacts(
        metric=benchmark.metric,
        direction=benchmark.direction,
        q99_loss=benchmark.task(task).thresholds.q99,
    )


def do_all(jobs: Iterable[Job], *, num_processes: int) -> Iterator[tuple[Job, list[Run], float]]:
    """Each job with its runs and the seconds that it took, as they come in."""
    if num_processes == 1:
        yield from map(_do, jobs)
        return
    # Not by fork: Ray and ONNX Runtime have threads of their own.
    with ProcessPoolExecutor(num_processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_do, job) for job in jobs]):
            yield done.result()


def _do(job: Job) -> tuple[Job, list[Run], float]:
    started = time.perf_counter()
    runs = [run_once(job, seed) for seed in range(job.num_seeds)]
    return job, runs, time.perf_counter() - started


def run_once(job: Job, seed: int) -> Run:
    """One search."""
    benchmark = _benchmark(job.folder)
    task = benchmark.task(job.task)
    history: tuple[PastStudy, ...] = ()
    if job.policy == OURS_WARM and job.warm_from is not None:
        whole = replace(job.settings, stop_at=None)
        history = past_studies(job.warm_from, leave_out=job.task, seed=seed, settings=whole)
    policy = policy_factory(job.policy)(
        PolicyTask(
            space=task.space,
            max_epochs=task.max_epochs,
            seed=run_seed(seed, job.task),
            num_workers=job.settings.num_workers,
            warm_history=history,
        )
    )
    clock = {"timer": free_decisions} if job.is_free else {}
    found = simulate_search(policy, task, job.settings, **clock)
    return _as_run(found, policy=job.policy, task=f"{benchmark.name}/{job.task}", seed=seed)


def _as_run(found: SearchRun, *, policy: str, task: str, seed: int) -> Run:
    return Run(
        policy=policy,
        task=task,
        seed=seed,
        q95=_rounded(found.cost_to_q95_c),
        q99=_rounded(found.cost_to_q99_c),
        q999=_rounded(found.cost_to_q999_c),
        billed=round(found.billed_c, 4),
        decision_seconds=round(found.decision_seconds, 4),
        median_decision_ms=round(1000 * found.median_decision_seconds, 4),
        decisions=found.num_decisions,
        trials=len(found.trials),
        trace=[[round(point.billed_c, 4), float(f"{point.loss:.6g}")] for point in found.trace],
    )


def _rounded(cost_c: float | None) -> float | None:
    return None if cost_c is None else round(cost_c, 4)


def write_results(file: Path, results: Results) -> None:
    """As `write_document` does."""
    tasks = {name: asdict(facts) for name, facts in results.tasks.items()}
    write_document(file, {"header": results.header, "tasks": tasks}, map(asdict, results.runs))


def read_results(file: Path) -> Results:
    """What `write_results` wrote.

    Raises:
        DataError: the file is missing or something else.
    """
    return read_document(
        file,
        lambda document: Results(
            header=document["header"],
            tasks={name: TaskFacts(**facts) for name, facts in document["tasks"].items()},
            runs=[Run(**run) for run in document["runs"]],
        ),
    )
