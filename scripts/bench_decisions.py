"""How long a decision of the search takes, and what its memory is, by the number of trials that it knows.

    .venv/bin/python scripts/bench_decisions.py [--trials 1000,10000] [--decisions 40]

A decision is a report taken in and the next segment found. The trials before it are even draws that stand at their
first rung, with losses and seconds of a made-up law.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc

import numpy as np

from mlcluster.search import Candidate, CostAwareHyperband, CostAwareSettings, Fidelity, SearchProblem, Suggestion
from mlcluster.spec import Configuration, FloatDomain

NUM_AXES, MAX_UNITS = 7, 50
SPACE = {f"axis{index}": FloatDomain(low=0.0, high=1.0, default=0.5) for index in range(NUM_AXES)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", default="1000,10000", help="how many are known, with commas between")
    parser.add_argument("--decisions", type=int, default=40, help="how many are timed")
    given = parser.parse_args()
    print("| trials known | median decision, ms | slowest, ms | policy's memory, MB | KB a trial |")
    print("|---|---|---|---|---|")
    with_trials(20)  # imports and caches are nobody's memory
    for count in map(int, given.trials.split(",")):
        tracemalloc.start()
        policy = with_trials(count)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        seconds = timed_decisions(policy, given.decisions)
        median, slowest = 1e3 * statistics.median(seconds), 1e3 * max(seconds)
        print(f"| {count} | {median:.1f} | {slowest:.1f} | {held / 1e6:.1f} | {held / 1e3 / count:.2f} |")


def with_trials(count: int) -> CostAwareHyperband:
    """A policy that has seen so many trials at their first rung."""
    fidelity = Fidelity(max_units=MAX_UNITS, nominal_seconds=lambda _, units: float(units))
    problem = SearchProblem(spaces={"made-up": SPACE}, fidelities={"made-up": fidelity}, seed=0)
    # Without the guard, which with so many at the first rung would answer before the model is asked.
    settings = CostAwareSettings(rungs_seconds=(1.0, 3.0, 9.0, 27.0, 50.0), guard=0)
    policy = CostAwareHyperband(settings, problem)
    rng = np.random.default_rng(0)
    for index in range(count):
        configuration = dict(zip(SPACE, rng.random(NUM_AXES).tolist(), strict=True))
        suggestion = Suggestion(
            trial_id=f"t{index:04d}",
            candidate=Candidate(family="made-up", configuration=configuration, origin="even"),
            rung=0,
            start_units=0,
            stop_units=1,
            reason="known before",
        )
        policy.accept(suggestion)
        report(policy, suggestion)
    return policy


def timed_decisions(policy: CostAwareHyperband, count: int) -> list[float]:
    """Seconds of decisions that each take in the report of the one before."""
    found = []
    for _ in range(count):
        started = time.perf_counter()
        suggestion = policy.suggest()
        assert suggestion is not None
        policy.accept(suggestion)
        report(policy, suggestion)
        found.append(time.perf_counter() - started)
    return found


def report(policy: CostAwareHyperband, suggestion: Suggestion) -> None:
    """As a training would that costs more to the right, and is best in the middle."""
    policy.report(
        suggestion.trial_id,
        units=suggestion.stop_units,
        loss=loss_after(suggestion.candidate.configuration, suggestion.stop_units),
        seconds=(suggestion.stop_units - suggestion.start_units)
        * (0.5 + float(suggestion.candidate.configuration["axis0"])),
    )


def loss_after(configuration: Configuration, units: int) -> float:
    """Falls with units to a floor that lies by the place."""
    return sum((float(value) - 0.5) ** 2 for value in configuration.values()) + 1.0 / (units + 1)


if __name__ == "__main__":
    main()
