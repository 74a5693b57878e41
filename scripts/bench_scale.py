"""What the search asks of its driver by the number of workers: decisions a second, memory, journal, waiting workers.

    .venv/bin/python scripts/bench_scale.py [--policies promise,halving] [--workers 8,64,256,1000] [--trials 10000]
        [--first-rung-seconds 60] [--seed 0] [--cpu-seconds] [--free-decisions] [--profile FILE]

A whole study is driven, with its policy, cost model, lease, ledger and journal on disk; only training is made up, of
one family with seven axes. A decision is a report taken in, the next piece found, and both on disk. One driver answers
all workers, one after the other, and its real seconds pass on the study's clock: who waits for it is paid for. A run
ends when the last of its trials has begun. With `--cpu-seconds` a decision takes what it takes of a processor, so that
neither a slow disk nor other work on the machine counts. With `--free-decisions` they pass in no time, so that a seed
gives one journal.
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import heapq
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mlcluster.cost import Ledger
from mlcluster.search import BestFamiliesSource, Fidelity, HyperbandSettings, RandomWithinFamily, SearchPolicy
from mlcluster.search.optuna_source import TpeWithinFamily
from mlcluster.spec import Configuration, FloatDomain
from mlcluster.train import CurvePoint, Segment, TrialReport
from mlcluster.tune import Study, StudyBudget, StudyPlan, VirtualClock, halving_policy, promise_policy

NUM_AXES, MAX_UNITS = 7, 27
RUNGS = (1, 3, 9, 27)
SPACE = {f"axis{index}": FloatDomain(low=0.0, high=1.0, default=0.5) for index in range(NUM_AXES)}
USD_PER_WORKER_SECOND = 1e-5
COLUMNS = (
    "policy",
    "workers",
    "trials",
    "decisions",
    "median ms",
    "p99 ms",
    "median ms, last tenth",
    "decisions/s",
    "peak MB",
    "journal B/trial",
    "waiting",
    "workers kept busy",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One run."""

    policy: str
    num_workers: int
    num_trials: int
    first_rung_seconds: float
    seed: int
    is_free: bool
    is_cpu: bool
    profile: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a run came to; `decision_seconds` in order, real ones even where they do not pass on the study's clock."""

    num_trials: int
    decision_seconds: tuple[float, ...]
    trained_seconds: float
    """Of all workers, on the study's clock."""
    waited_seconds: float
    """Of all workers: between the end of a piece, or the start of the study, and the next piece."""
    peak_mb: float
    """What the process has grown by since the study began."""
    journal_bytes: int
    journal_sha256: str

    def row(self, job: Job) -> tuple[str, ...]:
        """A line of the table, by `COLUMNS`."""
        milliseconds = 1e3 * np.array(self.decision_seconds)
        last = milliseconds[-max(1, len(milliseconds) // 10) :]
        piece_seconds = self.trained_seconds / len(milliseconds)
        return (
            job.policy,
            str(job.num_workers),
            str(self.num_trials),
            str(len(milliseconds)),
            f"{np.median(milliseconds):.1f}",
            f"{np.quantile(milliseconds, 0.99):.1f}",
            f"{np.median(last):.1f}",
            f"{1e3 / milliseconds.mean():.0f}",
            f"{self.peak_mb:.0f}",
            f"{self.journal_bytes / self.num_trials:.0f}",
            f"{self.waited_seconds / (self.waited_seconds + self.trained_seconds):.1%}",
            f"{1e3 * piece_seconds / milliseconds.mean():.0f}",
        )


@dataclass(kw_only=True)
class Waiting:
    """Workers that have nothing to do, by the moment since when; and what they have waited in all."""

    since: list[float]
    seconds: float = 0.0

    def take(self, now: float) -> None:
        """The one that has waited longest has its next piece."""
        self.seconds += now - heapq.heappop(self.since)

    def join(self, done_at: float, now: float) -> None:
        """One more is free. The others had no work to wait for until now."""
        self.since = [max(done_at, now)] * len(self.since)
        heapq.heappush(self.since, done_at)


@dataclass(kw_only=True)
class Driver:
    """Drives a study as `simulate_study` does, and takes the time of its decisions."""

    study: Study
    clock: VirtualClock
    job: Job
    waiting: Waiting
    queue: list[tuple[float, int, TrialReport]] = field(default_factory=list)
    decision_seconds: list[float] = field(default_factory=list)
    trained_seconds: float = 0.0
    _told_seconds: float = 0.0

    def drive(self) -> None:
        """Until the last trial has begun, or nothing is left to do."""
        self._hand_out()
        while self.queue and len(self.study.trials) < self.job.num_trials:
            done_at, _, report = heapq.heappop(self.queue)
            self.waiting.join(done_at, self.clock.now)
            self.clock.now = max(self.clock.now, done_at)
            _, self._told_seconds = self._timed(lambda report=report: self.study.report(report))  # type: ignore[misc]
            self._hand_out()

    def _hand_out(self) -> None:
        while self.waiting.since and len(self.study.trials) < self.job.num_trials:
            piece, seconds = self._timed(self.study.next_piece)
            self.decision_seconds.append(self._told_seconds + seconds)
            self._told_seconds = 0.0
            if not piece:
                return
            self.waiting.take(self.clock.now)
            report = report_of(piece[0], self.job.first_rung_seconds)
            self.trained_seconds += report.seconds
            heapq.heappush(self.queue, (self.clock.now + report.seconds, len(self.decision_seconds), report))

    def _timed(self, decide: Callable[[], object]) -> tuple[object, float]:
        timer = time.thread_time if self.job.is_cpu else time.perf_counter
        started = timer()
        found = decide()
        seconds = timer() - started
        self.clock.now += 0.0 if self.job.is_free else seconds
        return found, seconds


def main() -> None:
    given = arguments()
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    digests = []
    for policy in given.policies.split(","):
        for num_workers in map(int, given.workers.split(",")):
            job = Job(
                policy=policy,
                num_workers=num_workers,
                num_trials=given.trials,
                first_rung_seconds=given.first_rung_seconds,
                seed=given.seed,
                is_free=given.free_decisions,
                is_cpu=given.cpu_seconds,
                profile=given.profile,
            )
            outcome = in_a_process_of_its_own(job)
            print(f"| {' | '.join(outcome.row(job))} |", flush=True)
            digests.append(f"{policy} {num_workers}: {outcome.journal_sha256}")
    if given.free_decisions:
        print("\njournals, SHA-256:", *digests, sep="\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--policies", default="promise,halving", help=f"with commas between: {', '.join(POLICIES)}")
    add("--workers", default="8,64,256,1000", help="how many, with commas between")
    add("--trials", type=int, default=10_000, help="a run ends when so many have begun")
    add("--first-rung-seconds", type=float, default=60.0, help="a training until the first rung, on average")
    add("--seed", type=int, default=0)
    add("--cpu-seconds", action="store_true", help="take the time of decisions in seconds of a processor")
    add("--free-decisions", action="store_true", help="decisions take no time; journals' digests are shown")
    add("--profile", type=Path, help="write cProfile's statistics to this file (of the last run)")
    return parser.parse_args()


def in_a_process_of_its_own(job: Job) -> Outcome:
    """So that the memory of one run is not another's."""
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(run, job).result()


def run(job: Job) -> Outcome:
    """A study from its beginning, in a folder that is gone afterwards."""
    plan, clock = plan_of(job), VirtualClock()
    with tempfile.TemporaryDirectory() as folder:
        before = peak_rss_mb()
        ledger = Ledger(Path(folder) / "ledger.jsonl", cap_usd=1e12, now=0.0)
        study = Study(plan, folder=Path(folder), ledger=ledger, policy=POLICIES[job.policy](plan), clock=clock)
        driver = Driver(study=study, clock=clock, job=job, waiting=Waiting(since=[0.0] * job.num_workers))
        profiler = cProfile.Profile()
        if job.profile is None:
            driver.drive()
        else:
            profiler.runcall(driver.drive)
            profiler.dump_stats(job.profile)
        journal = (Path(folder) / "journal.jsonl").read_bytes()
        outcome = Outcome(
            num_trials=len(study.trials),
            decision_seconds=tuple(driver.decision_seconds),
            trained_seconds=driver.trained_seconds,
            waited_seconds=driver.waiting.seconds,
            peak_mb=peak_rss_mb() - before,
            journal_bytes=len(journal),
            journal_sha256=hashlib.sha256(journal).hexdigest(),
        )
        study.end_overdue()
        study.finish()
        ledger.close()
        return outcome


def peak_rss_mb() -> float:
    """Of this process so far; Linux counts it in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def plan_of(job: Job) -> StudyPlan:
    """A study that neither money nor minutes end."""

    def nominal_seconds(_: Configuration, units: int) -> float:
        return units * job.first_rung_seconds

    return StudyPlan(
        study_id="scale",
        metric="log_loss",
        seed=job.seed,
        spaces={"made-up": SPACE},
        fidelities={"made-up": Fidelity(max_units=MAX_UNITS, nominal_seconds=nominal_seconds)},
        settings=HyperbandSettings(rungs_seconds=tuple(units * job.first_rung_seconds for units in RUNGS)),
        budget=StudyBudget(
            seconds=1e12, num_slots=job.num_workers, usd_per_second=USD_PER_WORKER_SECOND * job.num_workers
        ),
    )


def report_of(segment: Segment, unit_seconds: float) -> TrialReport:
    """Of a training that costs more to the right of the first axis, and is best in the middle of all."""
    trained = range(segment.start_units + 1, segment.stop_units + 1)
    seconds = unit_seconds * len(trained) * (0.5 + float(segment.configuration["axis0"]))
    losses = [loss_after(segment.configuration, units) for units in trained]
    return TrialReport(
        trial_id=segment.trial_id,
        units=segment.stop_units,
        loss=losses[-1],
        seconds=seconds,
        curve=tuple(
            CurvePoint(units=units, value=loss, seconds=seconds * number / len(trained))
            for number, (units, loss) in enumerate(zip(trained, losses, strict=True), start=1)
        ),
        checkpoint=f"{segment.trial_id}-{segment.stop_units}.state",
    )


def loss_after(configuration: Configuration, units: int) -> float:
    """Falls with units to a floor that lies by the place."""
    return sum((float(value) - 0.5) ** 2 for value in configuration.values()) + 1.0 / (units + 1)


def _halving(plan: StudyPlan) -> SearchPolicy:
    """As `tune.search: halving` has it: TPE within a family."""
    tpe = TpeWithinFamily(plan.spaces, fallback=_random(plan), seed=plan.seed)
    return halving_policy(plan, BestFamiliesSource(tpe, tuple(plan.spaces), seed=plan.seed))


def _halving_random(plan: StudyPlan) -> SearchPolicy:
    return halving_policy(plan, BestFamiliesSource(_random(plan), tuple(plan.spaces), seed=plan.seed))


def _random(plan: StudyPlan) -> RandomWithinFamily:
    return RandomWithinFamily(plan.spaces, seed=plan.seed)


POLICIES: dict[str, Callable[[StudyPlan], SearchPolicy]] = {
    "promise": promise_policy,
    "halving": _halving,
    "halving-random": _halving_random,
}


if __name__ == "__main__":
    main()
