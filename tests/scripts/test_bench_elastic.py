"""`scripts/bench_elastic.py`: what goes as forecast costs what was planned, and seeds say which study it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import bench_elastic
import pytest

from mlcluster.cluster import Goal, SpeedUp, best_static_plan, halving_stages, plan_nodes
from tests.tune.benchmark_folders import write_table

ROOT = Path(__file__).resolve().parents[2]
STAGES = halving_stages(27, 3600.0, reduction_factor=3)[:-1]
SHARES = tuple(stage.seconds[0] / 3600.0 for stage in STAGES)
AS_FORECAST = bench_elastic.RecordedStudy(actual=STAGES, forecast=STAGES, shares=SHARES)


@pytest.mark.parametrize("factor", [1.25, 2.0, 4.0])
def test_a_study_that_goes_as_forecast_costs_what_was_planned(factor: float) -> None:
    fastest = plan_nodes(STAGES, bench_elastic.OFFERS, Goal(deadline_seconds=0.0)).seconds
    goal = Goal(deadline_seconds=factor * fastest)
    seconds, usd = bench_elastic.follow(AS_FORECAST, goal, SpeedUp())
    within = Goal(deadline_seconds=bench_elastic.MARGIN * goal.deadline_seconds)
    plan = plan_nodes(STAGES, bench_elastic.OFFERS, within)
    assert seconds <= goal.deadline_seconds
    assert usd == pytest.approx(plan.usd, rel=0.02)
    stayed_seconds, stayed_usd = bench_elastic.stay(AS_FORECAST, goal, SpeedUp())
    static = best_static_plan(STAGES, bench_elastic.OFFERS, within)
    assert (stayed_seconds, stayed_usd) == pytest.approx((static.seconds, static.usd))
    assert usd <= stayed_usd + 1e-9


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_table_of_a_recorded_benchmark_is_the_same_for_the_same_seeds(tmp_path: Path) -> None:
    folder = write_table(tmp_path / "tiny")
    shown = [run("--benchmark", str(folder), "--seeds", "2", "--out", str(tmp_path / f"{n}.json")) for n in range(2)]
    assert shown[0] == shown[1]
    assert len(shown[0].splitlines()) == 1 + len(bench_elastic.DEADLINE_FACTORS)
    outcomes = json.loads((tmp_path / "0.json").read_text())["outcomes"]
    ratios = [[one["ratio"] for one in outcomes if one["seed"] == seed] for seed in (0, 1)]
    assert len(ratios[0]) == len(ratios[1]) == 2 * len(bench_elastic.DEADLINE_FACTORS)
    assert ratios[0] != ratios[1]
    assert all(one["hindsight_ratio"] >= 1 - 1e-9 for one in outcomes)


def run(*words: str) -> str:
    command = [sys.executable, str(ROOT / "scripts" / "bench_elastic.py"), *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=env, timeout=150)
    return done.stdout
