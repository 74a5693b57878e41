"""What a study asks for: by when it must be done, and for how much (deadline near or far, budget tight or not)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlcluster.cli.elastic_study import START_SECONDS, Wish, wished_nodes
from mlcluster.cli.project import Project
from tests.cli.projects import ROOT, make_project
from tests.tune.studies import synthetic_plan

PROJECT = """
    project: sized
    data: {{source: data/table.parquet, target: answer}}
    models: [linear]
    workers: {workers}
    prices: {{cluster: cluster-configs/{file}}}
    tune: {{budget: {{usd: 100.0, minutes: {minutes}}}}}
"""
TRAINING_SECONDS = 2_700.0
NEAR, FAR = 47, 3_000
"""Minutes: a training to its end takes 45, and a bracket of 27 such trials 135 of one worker's."""


def wished(
    folder: Path, *, minutes: float, free_usd: float, file: str = "aws-cpu.yaml", workers: str = "cpu"
) -> Wish | None:
    text = PROJECT.format(minutes=minutes, file=file, workers=workers)
    make_project(folder, text)
    shutil.copytree(ROOT / "cluster-configs", folder / "cluster-configs", dirs_exist_ok=True)
    spec = Project.load(folder / "mlcluster.yaml").spec
    study = synthetic_plan(unit_seconds=TRAINING_SECONDS / 27)
    return wished_nodes(spec, folder, study, free_usd=free_usd)


def test_a_near_deadline_takes_more_nodes_than_a_far_one_and_the_nodes_are_whole(tmp_path: Path) -> None:
    near = wished(tmp_path, minutes=NEAR, free_usd=100.0)
    far = wished(tmp_path, minutes=FAR, free_usd=100.0)
    assert near is not None
    assert far is not None
    assert near.num_nodes > far.num_nodes == 1
    assert near.bundles == [{"CPU": 8.0}] * near.num_nodes
    assert near.plan.usd > far.plan.usd
    for one, minutes in ((near, NEAR), (far, FAR)):
        assert one.num_trials == 27
        assert one.plan.reason == "the cheapest within the deadline"
        assert one.plan.seconds <= 60 * minutes + START_SECONDS
        assert one.text.startswith(
            f"{one.num_nodes} x cpu-spot for 27 trials: the cheapest within the deadline, about $"
        )


def test_a_tight_budget_takes_fewer_nodes_and_says_what_the_deadline_would_have_cost(tmp_path: Path) -> None:
    ample = wished(tmp_path, minutes=NEAR, free_usd=100.0)
    assert ample is not None
    head_usd = 0.0864 * NEAR / 60
    tight = wished(tmp_path, minutes=NEAR, free_usd=0.95 * ample.plan.usd + head_usd)
    assert tight is not None
    assert tight.num_nodes < ample.num_nodes
    assert not tight.plan.meets_deadline
    assert tight.plan.meets_budget
    assert tight.plan.reason == f"the deadline would cost ${ample.plan.usd:.4g}; the fastest within the budget"
    # The head is paid for from the same money.
    assert wished(tmp_path, minutes=NEAR, free_usd=ample.plan.usd + head_usd + 1e-9) == ample
    assert wished(tmp_path, minutes=NEAR, free_usd=ample.plan.usd + head_usd - 1e-3) != ample


def test_a_far_deadline_and_no_money_at_all_is_the_cheapest_there_is(tmp_path: Path) -> None:
    found = wished(tmp_path, minutes=FAR, free_usd=0.0)
    assert found is not None
    assert (found.num_nodes, found.plan.reason) == (1, "the budget holds no plan at all; the cheapest there is")


def test_workers_with_a_gpu_are_of_types_that_have_one(tmp_path: Path) -> None:
    found = wished(tmp_path, minutes=FAR, free_usd=100.0, file="aws-cpu-gpu-spot.yaml", workers="gpu")
    assert found is not None
    assert found.node_type.node.name == "gpu-spot"
    assert found.bundles == [{"CPU": 4.0, "GPU": 1.0}]
    assert wished(tmp_path, minutes=FAR, free_usd=100.0, workers="gpu") is None


@pytest.mark.parametrize("minutes", [NEAR, FAR])
def test_the_same_question_has_the_same_answer(tmp_path: Path, minutes: float) -> None:
    assert wished(tmp_path, minutes=minutes, free_usd=100.0) == wished(tmp_path, minutes=minutes, free_usd=100.0)
