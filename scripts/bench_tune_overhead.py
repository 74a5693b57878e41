"""What a trial costs beside its training: mlcluster's studies on Ray Tune, and Ray Tune as it comes, in one run.

    .venv/bin/python scripts/bench_tune_overhead.py [--trials 1000] [--default-trials 20]

Two slots on an embedded Ray of two CPUs. Training is nothing in both: a loss that is a formula. Ours are N and 2N
trials, promotions as the policy decides them; Ray Tune's is a function trainable with default settings, of fewer trials
because each takes seconds. `written` is all bytes that went into state files over time, those that were written over
again included (Ray Tune rewrites its whole snapshot each time); `kept` is what lies there at the end.
"""

from __future__ import annotations

import argparse
import functools
import io
import itertools
import logging
import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcluster.cost import Ledger
from mlcluster.search import BestFamiliesSource, Fidelity, HyperbandSettings, RandomWithinFamily
from mlcluster.spec import FloatDomain
from mlcluster.train import CurvePoint, Segment, TrialReport
from mlcluster.tune import Study, StudyBudget, StudyPlan, halving_policy, read_journal

NUM_SLOTS = 2
SPACE = {"quality": FloatDomain(low=0.0, high=1.0, default=0.5)}
RUNGS = (1, 3, 9, 27)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One study or experiment."""

    num_trials: int
    num_segments: int
    seconds: float
    gap_seconds: float | None = None
    """Median seconds between the starts of two trials, which leaves out how the workers came up and went."""
    written_bytes: dict[str, int]
    kept_bytes: int

    @property
    def trial_ms(self) -> float:
        return self.seconds / self.num_trials * 1e3

    def line(self, name: str) -> str:
        written = sum(self.written_bytes.values())
        gap = "" if self.gap_seconds is None else f"{self.gap_seconds * 1e3:.1f}"
        parts = ", ".join(f"{part} {bytes_ / 1e3:.0f}" for part, bytes_ in self.written_bytes.items())
        return (
            f"| {name} | {self.num_trials} | {self.num_segments} | {self.seconds:.1f} | {self.trial_ms:.1f} "
            f"| {gap} | {written / 1e3:.0f} ({parts}) | {self.kept_bytes / 1e3:.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--default-trials", type=int, default=20)
    given = parser.parse_args()
    with embedded_ray() as folder:
        print("| runner | trials | segments | s | ms a trial | median | kB written | kB kept |")
        print("|---|---|---|---|---|---|---|---|")
        # First, for our runner turns Tune's own loggers off by the environment.
        default = run_default(given.default_trials, folder / "default")
        print(default.line("Ray Tune, defaults"), flush=True)
        ours = []
        for count in (given.trials, 2 * given.trials):
            ours.append(run_study(count, folder / f"ours-{count}"))
            print(ours[-1].line("mlcluster"), flush=True)
    growth = sum(ours[1].written_bytes.values()) / sum(ours[0].written_bytes.values())
    print(f"\nRay Tune's default takes {default.trial_ms / ours[0].trial_ms:.0f} times as long a trial")
    print(f"twice the trials: {growth:.2f} times the bytes written (2 is linear, 4 is the square)")


@contextmanager
def embedded_ray() -> Iterator[Path]:
    """A Ray of two CPUs on loopback, and an empty folder."""
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    import ray

    temp_dir = tempfile.mkdtemp(prefix="mlc-")
    ray.init(
        num_cpus=NUM_SLOTS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=temp_dir,
        _node_ip_address="127.0.0.1",
    )
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    finally:
        ray.shutdown()
        shutil.rmtree(temp_dir, ignore_errors=True)


def run_study(num_trials: int, folder: Path) -> Measured:
    """Through the runner that users get, with money that is no limit."""
    from mlcluster.tune.ray_study import run_study_on_ray

    plan = plan_of(num_trials)
    with counted_snapshots() as snapshots:
        started = time.perf_counter()
        ledger = Ledger(folder / "ledger.jsonl", cap_usd=1_000.0, now=time.time())
        source = BestFamiliesSource(RandomWithinFamily(plan.spaces, seed=0), tuple(plan.spaces), seed=0)
        study = Study(
            plan, folder=folder / "study", ledger=ledger, policy=halving_policy(plan, source), clock=time.time
        )
        result = run_study_on_ray(study, train, folder=folder / "ray", progress=lambda _: None)
        ledger.close()
        seconds = time.perf_counter() - started
    assert len(result.trials) == num_trials
    starts = [event for event in read_journal(folder / "study" / "journal.jsonl") if event.kind == "start"]
    return Measured(
        num_trials=num_trials,
        num_segments=len(starts),
        seconds=seconds,
        gap_seconds=_median_gap([event.at for event in starts if event.data["start_units"] == 0]),
        written_bytes={
            "journal": (folder / "study" / "journal.jsonl").stat().st_size,
            "ledger": (folder / "ledger.jsonl").stat().st_size,
            "Tune's snapshots": sum(snapshots),
            "Tune's other files": _bytes_in(folder / "ray") - _bytes_of_snapshots(folder / "ray"),
        },
        kept_bytes=_bytes_in(folder),
    )


def plan_of(num_trials: int) -> StudyPlan:
    fidelity = Fidelity(max_units=RUNGS[-1], nominal_seconds=lambda _, units: units * 0.001)
    return StudyPlan(
        study_id="bench",
        metric="log_loss",
        seed=0,
        spaces={"toy": SPACE},
        fidelities={"toy": fidelity},
        settings=HyperbandSettings(rungs_seconds=tuple(units * 0.001 for units in RUNGS)),
        budget=StudyBudget(seconds=36_000.0, num_slots=NUM_SLOTS, usd_per_second=1e-4, max_trials=num_trials),
    )


def train(segment: Segment) -> TrialReport:
    """Nothing but a report."""
    losses = {
        units: float(segment.configuration["quality"]) + math.exp(-units / 5)
        for units in range(segment.start_units + 1, segment.stop_units + 1)
    }
    return TrialReport(
        trial_id=segment.trial_id,
        units=segment.stop_units,
        loss=losses[segment.stop_units],
        seconds=0.001,
        curve=tuple(CurvePoint(units=units, value=loss, seconds=0.001) for units, loss in losses.items()),
        checkpoint=f"{segment.trial_id}-{segment.stop_units}.state",
    )


def run_default(num_trials: int, folder: Path) -> Measured:
    """A function trainable, as in Ray Tune's first example."""
    from ray import tune

    def objective(config: dict[str, Any]) -> None:
        tune.report({"loss": config["quality"]})

    with counted_snapshots() as snapshots:
        started = time.perf_counter()
        with redirect_stdout(io.StringIO()):
            results = tune.Tuner(
                objective,
                param_space={"quality": tune.uniform(0.0, 1.0)},
                tune_config=tune.TuneConfig(metric="loss", mode="min", num_samples=num_trials),
                run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
            ).fit()
        seconds = time.perf_counter() - started
    assert not results.errors
    return Measured(
        num_trials=num_trials,
        num_segments=num_trials,
        seconds=seconds,
        written_bytes={
            "Tune's snapshots": sum(snapshots),
            "Tune's other files": _bytes_in(folder) - _bytes_of_snapshots(folder),
        },
        kept_bytes=_bytes_in(folder),
    )


@contextmanager
def counted_snapshots() -> Iterator[list[int]]:
    """The bytes of each snapshot that Ray Tune writes meanwhile; it keeps them locally, and copies them as often."""
    from ray.tune.execution.tune_controller import TuneController

    save, sizes = TuneController.save_to_dir, []

    @functools.wraps(save)
    def counting_save(self: Any) -> None:
        save(self)
        sizes.append(2 * _bytes_of_snapshots(Path(self._storage.experiment_driver_staging_path)))

    TuneController.save_to_dir = counting_save
    try:
        yield sizes
    finally:
        TuneController.save_to_dir = save


def _bytes_of_snapshots(folder: Path) -> int:
    patterns = ("experiment_state-*", "searcher-state-*", "search_gen_state-*", "basic-variant-state-*", "tuner.pkl")
    return sum(path.stat().st_size for pattern in patterns for path in folder.rglob(pattern))


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _median_gap(moments: list[float]) -> float:
    moments = sorted(moments)
    return statistics.median(after - before for before, after in itertools.pairwise(moments))


if __name__ == "__main__":
    main()
