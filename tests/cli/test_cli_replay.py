"""`tune --replay`, on a study whose plan is the project file's."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mlcluster.cli.project import Project
from mlcluster.cli.replaying import recorded_plan
from mlcluster.cli.tune_stage import search_policy
from mlcluster.cli.workspace import RunFolder
from mlcluster.data import LocalEngine, prepare
from mlcluster.train import CurvePoint, Segment, TrialReport
from mlcluster.tune import VirtualClock, simulate_study
from mlcluster.tune.journal import Event
from tests.cli.projects import make_project, run_here
from tests.tune.studies import open_study

PLAIN = """
    project: demo
    data: {source: data/table.parquet, target: answer}
    models: [linear, boosting]
"""


def train(segment: Segment) -> TrialReport:
    """Half a second a unit; better with each, and with a learning rate near 0.01."""
    best = abs(math.log(float(segment.configuration["learning_rate"]) / 0.01))
    units = range(segment.start_units + 1, segment.stop_units + 1)
    curve = [CurvePoint(units=unit, value=0.9 - 0.05 * best - 0.3 / unit, seconds=0.5) for unit in units]
    return TrialReport.of(segment.trial_id, "roc_auc", curve, seconds=0.5 * len(units), checkpoint="none")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """With a study over its data, whose trainings are simulated."""
    folder = make_project(tmp_path / "demo", PLAIN)
    run = RunFolder(path=folder / ".mlcluster" / "runs" / "0001-0123456789ab")
    spec = Project.load(folder / "mlcluster.yaml").spec
    prepare(spec.data, base=folder, folder=run.snapshot, seed=0, engine=LocalEngine())
    begin = Event(kind="begin", at=0.0, data={"seed": 7, "slot_usd_per_second": {"cpu": 1e-5}})
    run.update(study_seconds=600.0)
    plan = recorded_plan(spec, run, [begin])
    clock = VirtualClock(1_000.0)
    study, ledger = open_study(plan, run.path, cap_usd=0.003, clock=clock, policy=search_policy(spec.tune.search, plan))
    simulate_study(study, train, clock)
    ledger.close()
    return folder


def test_all_decisions_are_equal_in_words_and_as_data(project: Path) -> None:
    told = run_here(project, "tune", "--replay")
    assert (told.code, told.stderr) == (0, "")
    data = run_here(project, "tune", "--replay", "--json").json
    assert told.stdout == f"run 0001-0123456789ab, seed 7: all {data['num_equal']} decisions are equal\n"
    assert (data["is_equal"], data["num_guessed"], data["divergence"]) == (True, 0, None)
    assert data["num_equal"] > 20


@pytest.mark.parametrize("changed", ["tune.search=halving", "tune.space={linear: {weight_decay: 0.01..0.1}}"])
def test_a_changed_setting_is_shown_at_its_first_other_decision(project: Path, changed: str) -> None:
    told = run_here(project, "tune", "--replay", "--set", changed)
    assert told.code == 3, told.stderr
    lines = told.stdout.splitlines()
    assert lines[0].endswith("decisions are equal, and then one is not")
    assert lines[1].startswith("decision ")
    assert [line.split()[0] for line in lines[2:] if not line.startswith("     ")] == ["recorded", "now"]
    data = run_here(project, "tune", "--replay", "--json", "--set", changed).json
    assert data["divergence"]["number"] == data["num_equal"] + 1
    assert data["divergence"]["recorded"] != data["divergence"]["now"]


def test_without_a_study_it_says_what_to_run(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "none", PLAIN)
    assert run_here(folder, "tune", "--replay").complaint == (
        "this project has no run yet; start one with `mlcluster run` or `mlcluster tune`."
    )
