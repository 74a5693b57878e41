"""Each family that may train on a GPU, on a real one: pauses, seeds, exports and memory. Skipped without one."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from mlcluster.data.augment import EpochAugmentation, ImagePlace
from mlcluster.data.schema import TaskKind
from mlcluster.registry import to_onnx
from mlcluster.spec import AugmentSpec, Configuration, Device, ImageAugmentSpec, default_configuration
from mlcluster.train import (
    FAMILIES,
    METRICS,
    CheckpointFolder,
    Family,
    Segment,
    TrainingData,
    TrialReport,
    load_learner,
    predicted_classes,
    run_segment,
    warm_up,
)
from tests.train.small_data import TASKS, data_of, small_data, small_images

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that torch can use")

UNITS = 4
METRIC: dict[TaskKind, str] = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}
ON_GPU = [family for family in FAMILIES.values() if family.on_gpu is not None]
each_family = pytest.mark.parametrize("family", ON_GPU, ids=[family.name for family in ON_GPU])
each_task = pytest.mark.parametrize("task", TASKS)


@pytest.fixture(autouse=True, scope="module")
def warm() -> None:
    """The libraries keep workspaces of their own from their first call on."""
    warm_up([family.name for family in ON_GPU], "gpu")


@pytest.fixture(autouse=True)
def memory_given_back() -> Iterator[None]:
    """What a training leaves on the GPU, the next ones lack."""
    before = torch.cuda.memory_allocated()
    yield
    gc.collect()  # a traceback that pytest has kept holds the tensors of its frames
    assert torch.cuda.memory_allocated() <= before, "a training has left something on the GPU"


class Trial:
    """One trial on a few hundred rows, its pieces trained here or there; its checkpoints are in `folder`."""

    def __init__(self, family: Family, data: TrainingData, folder: Path, *, seed: int = 5, **more: float) -> None:
        self.family, self.data, self.seed = family, data, seed
        defaults = default_configuration(family.space)
        self.configuration: Configuration = {**defaults, "batch_size": 64, "learning_rate": 0.01, **more}
        self.checkpoints = CheckpointFolder(folder)

    def segment(self, device: Device, start: int, stop: int) -> Segment:
        return Segment(
            trial_id="t0001",
            family=self.family.name,
            configuration=self.configuration,
            seed=self.seed,
            start_units=start,
            stop_units=stop,
            limit_seconds=1e6,
            deadline=0.0,
            device=device,
        )

    def train(self, *pieces: tuple[Device, int]) -> TrialReport:
        """Each piece up to that many units, from the checkpoint of the one before; the last one's report."""
        start = 0
        for device, stop in pieces:
            segment = self.segment(device, start, stop)
            report = run_segment(segment, self.data, self.checkpoints, metric=METRIC[self.data.task])
            assert report.units == stop
            start = stop
        return report

    def answers(self, units: int = UNITS) -> np.ndarray:
        """Of the validation split, worked out on the CPU by what stands in the checkpoint."""
        learner = load_learner(self.segment("cpu", units, units), self.data, self.checkpoints)
        return learner.scores(self.data.validation["dense"].features)


@each_task
@each_family
def test_a_trial_that_was_paused_on_a_gpu_is_the_unbroken_one_bit_for_bit(
    family: Family, task: TaskKind, tmp_path: Path
) -> None:
    paused, unbroken = (Trial(family, data_of(family, task), tmp_path / name) for name in ("paused", "unbroken"))
    reports = paused.train(("gpu", 1), ("gpu", 2), ("gpu", UNITS)), unbroken.train(("gpu", UNITS))
    assert paused.answers().tobytes() == unbroken.answers().tobytes()
    assert reports[0].loss == reports[1].loss


@each_task
@each_family
def test_the_seed_decides_every_bit_on_a_gpu_too(family: Family, task: TaskKind, tmp_path: Path) -> None:
    data = data_of(family, task)
    trials = [Trial(family, data, tmp_path / str(place), seed=seed) for place, seed in enumerate((1, 1, 2))]
    for trial in trials:
        trial.train(("gpu", UNITS))
    first, again, other = (trial.answers().tobytes() for trial in trials)
    assert first == again
    assert first != other


@pytest.mark.parametrize("devices", [("gpu", "cpu"), ("cpu", "gpu"), ("gpu", "gpu")], ids="-".join)
@each_family
def test_without_dropout_a_trial_is_the_same_to_rounding_wherever_it_goes_on(
    family: Family, devices: tuple[Device, Device], tmp_path: Path
) -> None:
    data = data_of(family, "binary")
    moved, stayed = (Trial(family, data, tmp_path / name, dropout=0.0) for name in ("moved", "stayed"))
    moved.train((devices[0], 2), (devices[1], UNITS))
    stayed.train(("cpu", UNITS))
    np.testing.assert_allclose(moved.answers(), stayed.answers(), atol=1e-4)


@each_family
def test_a_gpu_learns_as_much_as_a_core(family: Family, tmp_path: Path) -> None:
    """With dropout, whose draws differ."""
    data, units = data_of(family, "binary"), 12
    right = {}
    for device in ("cpu", "gpu"):
        trial = Trial(family, data, tmp_path / device)
        trial.train((device, units))
        right[device] = float((predicted_classes(trial.answers(units)) == data.validation["dense"].targets).mean())
    assert min(right.values()) > 0.85
    assert abs(right["gpu"] - right["cpu"]) < 0.08


@each_task
@each_family
def test_the_exported_model_answers_as_the_training_on_a_gpu_has_scored(
    family: Family, task: TaskKind, tmp_path: Path
) -> None:
    trial = Trial(family, data_of(family, task), tmp_path)
    report = trial.train(("gpu", UNITS))
    validation = trial.data.validation["dense"]
    learner = load_learner(trial.segment("gpu", UNITS, UNITS), trial.data, trial.checkpoints)
    scored = learner.scores(validation.features)
    session = onnxruntime.InferenceSession(to_onnx(learner.structure()), providers=["CPUExecutionProvider"])
    (answers,) = session.run(["scores"], {"features": validation.features})
    # Of conv, training works in float32; of the others, the export in double is what training scores with.
    tolerance = (1e-6 if family.name == "conv" else 1e-9) * max(1.0, float(np.abs(scored).max()))
    assert np.abs(np.reshape(answers, scored.shape) - scored).max() <= tolerance
    metric = METRICS[METRIC[task]]
    assert float(metric.compute(validation.targets, scored)) == pytest.approx(report.curve[-1].value, rel=1e-6)


@each_family
def test_what_is_trained_on_a_gpu_lies_there_and_is_gone_afterwards(family: Family, tmp_path: Path) -> None:
    trial = Trial(family, data_of(family, "binary"), tmp_path)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    trial.train(("gpu", 1))
    num_bytes = trial.data.train["dense"].features.nbytes
    assert torch.cuda.max_memory_allocated() >= before + num_bytes
    assert torch.cuda.memory_allocated() == before


def test_images_that_are_moved_in_each_epoch_are_the_same_after_a_pause(tmp_path: Path) -> None:
    plain = small_images("multiclass")
    assert plain.image is not None
    spec = AugmentSpec(images=ImageAugmentSpec(crop=1, rotate=10, cutout=0.3), mixup=0.2)
    place = ImagePlace(start=0, shape=plain.image)
    augmentation = EpochAugmentation.of(spec, plain.train["dense"].features, np.zeros(0, np.intp), (place,))
    data = replace(plain, augmentation=augmentation)
    paused, unbroken = (Trial(FAMILIES["conv"], data, tmp_path / name) for name in ("paused", "unbroken"))
    paused.train(("gpu", 1), ("gpu", UNITS))
    unbroken.train(("gpu", UNITS))
    assert paused.answers().tobytes() == unbroken.answers().tobytes()


def test_a_net_that_does_not_fit_fails_alone_and_leaves_room_for_the_next(tmp_path: Path) -> None:
    data, family = small_data("binary"), FAMILIES["mlp"]
    fits, too_large = Trial(family, data, tmp_path / "fits"), Trial(family, data, tmp_path / "large", width=4096)
    fits.train(("gpu", 1))
    total_bytes = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 100 * 2**20) / total_bytes)
    try:
        with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
            too_large.train(("gpu", 1))
        fits.train(("gpu", UNITS))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
