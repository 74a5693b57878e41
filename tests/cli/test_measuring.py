"""What a model needs is what its served artifact needs, found in a few milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mlcluster.cli.bundling import bundle_around, example_row
from mlcluster.cli.data_stage import load_training_data
from mlcluster.cli.measuring import MAX_NODES, ServingMeasure, measure_bundle, with_measure
from mlcluster.cli.project import Project
from mlcluster.data import LocalEngine, prepare
from mlcluster.registry import to_onnx
from mlcluster.spec import DEFAULT_FAMILIES, AugmentSpec, default_configuration
from mlcluster.train import (
    FAMILIES,
    BinaryTree,
    CheckpointFolder,
    Segment,
    TrainingData,
    TreeEnsemble,
    load_learner,
    run_segment,
)
from mlcluster.tune import Limits
from tests.cli.projects import run_here


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrainingData, ServingMeasure]]:
    """The sample's training data, and what measures its models."""
    folder = tmp_path_factory.mktemp("measuring") / "demo"
    run_here(folder.parent, "init", "demo")
    project = Project.load(folder / "mlcluster.yaml")
    snapshot = prepare(project.spec.data, base=folder, folder=folder / "snapshot", seed=0, engine=LocalEngine())
    context: Any = SimpleNamespace(spec=project.spec, project_folder=folder, run=SimpleNamespace(run_id="r"))
    around = {name: bundle_around(context, snapshot, name) for name in DEFAULT_FAMILIES}
    yield (
        load_training_data(snapshot, DEFAULT_FAMILIES, augment=AugmentSpec(), seed=0),
        ServingMeasure(around=around, row=example_row(snapshot), limits=Limits()),
    )


def segment_of(family: str, *, start_units: int = 0, stop_units: int = 1) -> Segment:
    return Segment(
        trial_id="t0000",
        family=family,
        configuration=default_configuration(FAMILIES[family].space),
        seed=0,
        start_units=start_units,
        stop_units=stop_units,
        limit_seconds=1e6,
        deadline=1e12,
    )


@pytest.mark.parametrize("family", DEFAULT_FAMILIES)
def test_the_size_is_the_served_artifacts_and_a_model_that_does_not_grow_is_measured_once(
    family: str, served: tuple[TrainingData, ServingMeasure], tmp_path: Path
) -> None:
    data, measure = served
    checkpoints = CheckpointFolder(tmp_path)
    first, second = segment_of(family), segment_of(family, start_units=1, stop_units=2)
    report = run_segment(first, data, checkpoints, metric="log_loss")
    measured = with_measure(report, first, data, checkpoints, measure).measured
    structure = load_learner(second, data, checkpoints).structure()
    whole = measure_bundle(replace(measure.around[family], model=to_onnx(structure)), measure.row)
    assert measured is not None
    assert measured.model_mb == pytest.approx(whole.model_mb, rel=0.01)
    assert 0 < measured.p99_ms < 1000
    later = run_segment(second, data, checkpoints, metric="log_loss")
    assert (with_measure(later, second, data, checkpoints, measure).measured is None) != FAMILIES[family].model_grows


def test_a_diverged_training_is_not_measured(served: tuple[TrainingData, ServingMeasure], tmp_path: Path) -> None:
    data, measure = served
    segment = segment_of("linear")
    report = run_segment(segment, data, CheckpointFolder(tmp_path), metric="log_loss")
    diverged = replace(report, loss=float("nan"))
    assert with_measure(diverged, segment, data, CheckpointFolder(tmp_path), measure).measured is None


def comb(num_inner: int) -> BinaryTree:
    """A tree whose every inner node has a leaf at its left."""
    inner = np.arange(num_inner)
    return BinaryTree(
        feature=np.concatenate([inner % 3, np.full(num_inner + 1, -1)]).astype(np.int32),
        threshold=np.zeros(2 * num_inner + 1, dtype=np.float32),
        left=np.concatenate([inner + num_inner, np.full(num_inner + 1, -1)]).astype(np.int32),
        right=np.concatenate([inner[1:], [2 * num_inner], np.full(num_inner + 1, -1)]).astype(np.int32),
        missing_left=np.zeros(2 * num_inner + 1, dtype=np.bool_),
        value=np.linspace(0.0, 1.0, 2 * num_inner + 1).reshape(-1, 1),
    )


def test_of_a_great_ensemble_a_part_stands_for_the_whole(served: tuple[TrainingData, ServingMeasure]) -> None:
    _, measure = served
    width = measure.around["forest"].transform.num_outputs
    trees = tuple(comb(400 + 10 * (index % 7)) for index in range(3 * MAX_NODES // 800))
    forest = TreeEnsemble(trees=trees, base=np.zeros(1), num_inputs=width, link="sigmoid")
    whole = measure_bundle(replace(measure.around["forest"], model=to_onnx(forest)), measure.row)
    assert measure("forest", forest).model_mb == pytest.approx(whole.model_mb, rel=0.05)
