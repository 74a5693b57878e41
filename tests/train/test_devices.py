"""Nets on a GPU: the same model to rounding, and states that go on anywhere. Some need a GPU, or are skipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mlcluster.data.schema import TaskKind
from mlcluster.errors import ClusterError
from mlcluster.spec import default_configuration
from mlcluster.train import FAMILIES, CheckpointFolder, DataSize, Segment, run_segment
from mlcluster.train.dense import DenseLearner, raw_scores_on
from mlcluster.train.dense_cost import nominal_seconds, nominal_seconds_on_gpu
from tests.train.small_data import TASKS, small_data

CPU = torch.device("cpu")
with_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that torch can use")
each_task = pytest.mark.parametrize("task", TASKS)


def learner_of(task: TaskKind, *, dropout: float = 0.3) -> DenseLearner:
    configuration = {**default_configuration(FAMILIES["mlp"].space), "batch_size": 64, "dropout": dropout}
    return DenseLearner(configuration, small_data(task), 3)


def segment_of(device: str, *, start: int, stop: int) -> Segment:
    return Segment(
        trial_id="t0001",
        family="mlp",
        configuration=default_configuration(FAMILIES["mlp"].space),
        seed=5,
        start_units=start,
        stop_units=stop,
        limit_seconds=1e6,
        deadline=0.0,
        device=device,  # type: ignore[arg-type]
    )


def test_nets_may_use_a_gpu_and_trees_may_not() -> None:
    devices = {name: family.devices for name, family in FAMILIES.items()}
    assert [name for name, able in devices.items() if "gpu" in able] == ["linear", "mlp", "conv"]
    assert all("cpu" in able for able in devices.values())


@each_task
def test_a_learner_that_was_moved_trains_to_the_same_bits_on_the_same_device(task: TaskKind) -> None:
    stayed, moved = learner_of(task), learner_of(task)
    for learner in (stayed, moved):
        learner.advance(2)
    moved.move_to(CPU)
    for learner in (stayed, moved):
        learner.advance(4)
    features = small_data(task).validation["dense"].features
    assert moved.scores(features).tobytes() == stayed.scores(features).tobytes()


@each_task
def test_scores_worked_out_on_a_device_are_those_of_the_structure(task: TaskKind) -> None:
    learner = learner_of(task)
    learner.advance(3)
    net, features = learner.structure(), small_data(task).validation["dense"].features
    np.testing.assert_allclose(raw_scores_on(CPU, net, features), net.raw_scores(features), rtol=1e-10, atol=1e-12)


def test_a_small_net_is_no_faster_on_a_gpu_and_a_large_one_many_times() -> None:
    size = DataSize(rows=100_000, columns=100, outputs=2)
    small, large = (
        {**default_configuration(FAMILIES["mlp"].space), "num_layers": layers, "width": width, "batch_size": batch}
        for layers, width, batch in ((1, 16, 64), (3, 256, 1024))
    )
    assert nominal_seconds_on_gpu(small, size, 1) > 0.9 * nominal_seconds(small, size, 1)
    assert nominal_seconds_on_gpu(large, size, 1) < 0.1 * nominal_seconds(large, size, 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_where_torch_can_use_no_gpu_a_training_on_one_says_what_to_do(tmp_path: Path) -> None:
    segment = segment_of("gpu", start=0, stop=1)
    with pytest.raises(ClusterError, match=r"workers = gpu .* torch .* cannot use; install a CUDA build of torch"):
        run_segment(segment, small_data("binary"), CheckpointFolder(tmp_path), metric="roc_auc")


@with_gpu
def test_without_dropout_a_net_on_a_gpu_is_that_of_a_cpu_to_rounding() -> None:
    on_cpu, on_gpu = learner_of("binary", dropout=0.0), learner_of("binary", dropout=0.0)
    on_gpu.move_to(torch.device("cuda"))
    for learner in (on_cpu, on_gpu):
        learner.advance(3)
    features = small_data("binary").validation["dense"].features
    np.testing.assert_allclose(on_gpu.scores(features), on_cpu.scores(features), atol=1e-4)


@with_gpu
def test_a_trial_goes_on_from_either_device_to_the_other(tmp_path: Path) -> None:
    for start, (device, stop) in zip((0, 1, 2), (("cpu", 1), ("gpu", 2), ("cpu", 3)), strict=True):
        segment = segment_of(device, start=start, stop=stop)
        report = run_segment(segment, small_data("binary"), CheckpointFolder(tmp_path), metric="roc_auc")
        assert report.units == stop
