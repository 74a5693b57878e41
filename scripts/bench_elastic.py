"""What a study costs on a cluster whose size follows it, against the best of one size, on recorded tasks.

    .venv/bin/python scripts/bench_elastic.py --benchmark ../shared/benchmarks/lcbench [--benchmark ...] [--seeds 20]
        [--hours 1.0] [--parallel 0.0] [--out FILE.json]

Successive halving of 81 random configurations by three, on the recorded curves of each task; one full training takes
--hours on average (RubberBand's question, Misra et al., EuroSys 2021). Nodes are AWS's m6a with 2 to 16 slots, at the
same price a slot, started in three minutes and billed by the second. Ours is told the average cost of a training, and
how those of another task are spread around theirs; it plans anew after each stage, in which it has seen what an epoch
of each trial takes. The best static size is chosen in hindsight, knowing every duration, and must meet the same
deadline: 1.25, 1.5, 2 or 4 times the fastest that anybody could be.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from bench_files import provenance

from mlcluster.cluster.elastic import Goal, best_static_plan, plan_nodes
from mlcluster.cluster.stage_schedule import NodeOffer, SpeedUp, Stage, schedule_stage
from mlcluster.spec import Configuration, FloatDomain, SearchSpace
from mlcluster.tune import load_benchmark
from mlcluster.tune.benchmark import BenchmarkTask

NUM_TRIALS, REDUCTION = 81, 3
DEADLINE_FACTORS = (1.25, 1.5, 2.0, 4.0)
MARGIN = 0.97
"""Of the time that is left, what a plan may use: forecasts are not exact."""
PRICE_OF_SLOT = 0.0432
OFFERS = tuple(
    NodeOffer(name=f"m6a.{name}", usd_per_hour=PRICE_OF_SLOT * slots, slots=slots, max_nodes=128 // slots)
    for name, slots in (("large", 2), ("xlarge", 4), ("2xlarge", 8), ("4xlarge", 16))
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One study under one deadline. Ratios are the best static size's dollars over ours: above 1, ours is cheaper."""

    task: str
    seed: int
    factor: float
    ratio: float
    hindsight_ratio: float
    """Of a plan that knows all durations, as the static size does."""
    fair_ratio: float
    """Of a static size that was chosen by the same forecast as ours."""
    is_in_time: bool
    is_static_in_time: bool
    """The one that was chosen by the forecast."""
    tight_budget_kept: bool
    """Whether a budget of the cheapest plan and 5 % was kept, with the same deadline."""


@dataclass(frozen=True, kw_only=True)
class RecordedStudy:
    """What each stage's trials take in truth, and what is forecast of them when the study begins."""

    actual: tuple[Stage, ...]
    forecast: tuple[Stage, ...]
    shares: tuple[float, ...]
    """Of a full training, in each stage."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", type=Path, action="append", required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--parallel", type=float, default=0.0, help="share of a training that more slots speed up")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    speed_up = SpeedUp(parallel_share=given.parallel)
    outcomes: list[Outcome] = []
    for benchmark in map(load_benchmark, given.benchmark):
        names = benchmark.task_names
        for name, other in zip(names, (*names[1:], names[0]), strict=True):
            for seed in range(given.seeds):
                study = record(benchmark.task(name), benchmark.task(other), seed, 3600.0 * given.hours)
                outcomes += judge(name, seed, study, speed_up)
    print("\n".join(table(outcomes)))
    if given.out is not None:
        lines = {
            "provenance": provenance("bench_elastic.py", ("numpy",)),
            "outcomes": [asdict(one) for one in outcomes],
        }
        given.out.write_text(json.dumps(lines, indent=1) + "\n")


def record(task: BenchmarkTask, other: BenchmarkTask, seed: int, mean_seconds: float) -> RecordedStudy:
    """The study of one seed, from the recorded curves; the forecast's spread is that of another task."""
    rng = np.random.default_rng(seed)
    curves = [task.curve(draw(task.space, rng)) for _ in range(NUM_TRIALS)]
    spread = np.array([other.curve(draw(other.space, rng)).seconds[-1] for _ in range(NUM_TRIALS)])
    scale = mean_seconds / task.mean_cost_seconds
    num_stages = round(math.log(NUM_TRIALS, REDUCTION))
    rungs = [max(1, round(task.max_epochs / REDUCTION ** (num_stages - 1 - stage))) for stage in range(num_stages)]
    alive, done, actual = list(range(NUM_TRIALS)), 0, []
    for rung in rungs:
        seconds = [curves[one].seconds[rung - 1] - (curves[one].seconds[done - 1] if done else 0.0) for one in alive]
        actual.append(Stage(seconds=tuple(max(1.0, float(one) * scale) for one in seconds)))
        alive = sorted(alive, key=lambda one, last=rung - 1: curves[one].losses[last])[
            : max(1, len(alive) // REDUCTION)
        ]
        done = rung
    shares = np.diff([0, *rungs]) / task.max_epochs
    first = spread / spread.mean() * mean_seconds * shares[0]
    return RecordedStudy(
        actual=tuple(actual), forecast=tuple(expect(first, shares)), shares=tuple(float(one) for one in shares)
    )


def expect(seconds: np.ndarray, shares: np.ndarray | tuple[float, ...]) -> Iterator[Stage]:
    """Stages of which the first takes `seconds`: of those trials a third like them goes on, the slowest among it."""
    slowest_first = np.sort(seconds)[::-1]
    for share in shares:
        yield Stage(seconds=tuple(float(one) for one in slowest_first * share / shares[0]))
        slowest_first = np.concatenate([slowest_first[:1], slowest_first[REDUCTION + 1 :: REDUCTION]])


def draw(space: SearchSpace, rng: np.random.Generator) -> Configuration:
    """A random configuration, uniform in the space's own scale."""
    found: dict[str, float | int] = {}
    for name, domain in space.items():
        low, high = (math.log(domain.low), math.log(domain.high)) if domain.log else (domain.low, domain.high)
        value = rng.uniform(low, high)
        value = math.exp(value) if domain.log else value
        found[name] = value if isinstance(domain, FloatDomain) else round(value)
    return found


def judge(name: str, seed: int, study: RecordedStudy, speed_up: SpeedUp) -> Iterator[Outcome]:
    """Ours and the best static size under each deadline."""
    fastest = plan_nodes(study.actual, OFFERS, Goal(deadline_seconds=0.0), speed_up=speed_up).seconds
    for factor in DEADLINE_FACTORS:
        goal = Goal(deadline_seconds=factor * fastest)
        static = best_static_plan(study.actual, OFFERS, goal, speed_up=speed_up)
        hindsight = plan_nodes(study.actual, OFFERS, goal, speed_up=speed_up)
        seconds, usd = follow(study, goal, speed_up)
        blind_seconds, blind_usd = stay(study, goal, speed_up)
        tight = Goal(deadline_seconds=goal.deadline_seconds, budget_usd=1.05 * hindsight.usd)
        yield Outcome(
            task=name,
            seed=seed,
            factor=factor,
            ratio=static.usd / usd,
            hindsight_ratio=static.usd / hindsight.usd,
            fair_ratio=blind_usd / usd,
            is_in_time=seconds <= goal.deadline_seconds,
            is_static_in_time=blind_seconds <= goal.deadline_seconds,
            tight_budget_kept=follow(study, tight, speed_up)[1] <= 1.05 * hindsight.usd,
        )


def follow(study: RecordedStudy, goal: Goal, speed_up: SpeedUp) -> tuple[float, float]:
    """Plans, runs a stage as it was recorded, plans what is left; gives seconds and dollars."""
    seconds = usd = 0.0
    held: tuple[NodeOffer, int] | None = None
    known = list(study.forecast)
    for number, stage in enumerate(study.actual):
        left = Goal(
            deadline_seconds=MARGIN * (goal.deadline_seconds - seconds),
            budget_usd=None if goal.budget_usd is None else max(0.0, goal.budget_usd - usd),
        )
        plan = plan_nodes(known[number:], OFFERS, left, speed_up=speed_up, held=held)
        now = plan.stages[0]
        run = schedule_stage(stage, now.offer, now.num_nodes, speed_up)
        after = plan.stages[1] if len(plan.stages) > 1 else None
        keep = min(now.num_nodes, after.num_nodes) if after is not None and after.offer == now.offer else 0
        billed = now.start_seconds * now.num_nodes + run.node_seconds(keep)
        seconds, usd = seconds + now.start_seconds + run.seconds, usd + billed * now.offer.usd_per_hour / 3600.0
        held = (now.offer, keep) if keep else None
        learn(known, study, number)
    return seconds, usd


def stay(study: RecordedStudy, goal: Goal, speed_up: SpeedUp) -> tuple[float, float]:
    """The best static size by the forecast, run as it was recorded; gives seconds and dollars."""
    left = Goal(deadline_seconds=MARGIN * goal.deadline_seconds)
    first = best_static_plan(study.forecast, OFFERS, left, speed_up=speed_up).stages[0]
    runs = [schedule_stage(stage, first.offer, first.num_nodes, speed_up).seconds for stage in study.actual]
    seconds = first.start_seconds + sum(runs)
    return seconds, seconds * first.num_nodes * first.offer.usd_per_hour / 3600.0


def learn(known: list[Stage], study: RecordedStudy, number: int) -> None:
    """Who is left is known now, and what an epoch of theirs takes."""
    if number + 1 < len(known):
        known[number + 1 :] = expect(np.array(study.actual[number + 1].seconds), study.shares[number + 1 :])


def table(outcomes: list[Outcome]) -> list[str]:
    """Dollars of the best static size over ours: geometric means over tasks with bootstrap intervals, worst task."""
    lines = [
        "deadline  both know all         worst   both by forecast      worst   in time: ours, static   tight budget"
    ]
    for factor in DEADLINE_FACTORS:
        of = [one for one in outcomes if one.factor == factor]
        knowing = _spread(of, "hindsight_ratio")
        forecast = _spread(of, "fair_ratio")
        in_time = _spread([one for one in of if one.is_in_time and one.is_static_in_time], "fair_ratio").strip()
        shares = [np.mean([getattr(one, name) for one in of]) for name in ("is_in_time", "is_static_in_time")]
        kept = np.mean([one.tight_budget_kept for one in of])
        lines.append(
            f"{factor:>5.2f} x  {knowing}  {forecast}   {shares[0]:>9.1%}{shares[1]:>9.1%}{kept:>15.1%}"
            f"   by forecast where both are in time: {in_time}"
            f"   ours by forecast against static that knows all: {_spread(of, 'ratio').strip()}"
        )
    return lines


def _spread(outcomes: list[Outcome], name: str) -> str:
    tasks = sorted({one.task for one in outcomes})
    logs = np.array([np.mean([math.log(getattr(one, name)) for one in outcomes if one.task == task]) for task in tasks])
    draws = np.random.default_rng(0).choice(logs, (2000, len(logs))).mean(axis=1)
    low, high = np.exp(np.quantile(draws, [0.025, 0.975]))
    return f"{math.exp(logs.mean()):>5.2f} [{low:.2f}, {high:.2f}] {math.exp(logs.min()):>6.2f}"


if __name__ == "__main__":
    main()
