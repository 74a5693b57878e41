"""Convolutional nets on images of any size; what all families keep is in `test_learners`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mlcluster.data import ImageShape
from mlcluster.data.augment import EpochAugmentation, ImagePlace
from mlcluster.errors import DataError
from mlcluster.spec import AugmentSpec, ImageAugmentSpec, default_configuration
from mlcluster.train import (
    FAMILIES,
    ConvNet,
    DataSize,
    Learner,
    Matrices,
    TrainingData,
    apply_link,
    check_families,
    warm_up,
)
from mlcluster.train.conv import ConvLearner
from mlcluster.train.conv_cost import row_work
from tests.train.small_data import small_data, small_images

CONV = FAMILIES["conv"]
CONFIGURATION = {**default_configuration(CONV.space), "batch_size": 32, "width": 8, "learning_rate": 0.01}
SHAPES = [(1, 1, 1), (1, 9, 1), (2, 2, 3), (5, 7, 3), (8, 8, 1), (13, 6, 1)]


def random_data(height: int, width: int, channels: int, *, num_rows: int = 60) -> TrainingData:
    rng = np.random.default_rng(0)
    shape = ImageShape(height=height, width=width, channels=channels)
    features = rng.normal(size=(num_rows, shape.num_values)).astype(np.float32)
    matrices = Matrices(features=features, targets=rng.integers(0, 3, num_rows))
    return TrainingData(
        task="multiclass", num_classes=3, train={"dense": matrices}, validation={"dense": matrices}, image=shape
    )


def trained(data: TrainingData, *, until: int = 2, seed: int = 3, **more: int | float) -> Learner:
    learner = CONV.build({**CONFIGURATION, **more}, data, seed)
    learner.advance(until)
    return learner


@pytest.mark.parametrize("num_blocks", [1, 2, 5])
@pytest.mark.parametrize("sides", SHAPES)
def test_the_structure_answers_as_the_net_for_any_image(sides: tuple[int, int, int], num_blocks: int) -> None:
    data = random_data(*sides)
    learner, features = trained(data, num_blocks=num_blocks, width=4), data.train["dense"].features
    structure = learner.structure()
    assert isinstance(structure, ConvNet)
    answers = apply_link(structure.raw_scores(features), structure.link)
    assert np.abs(answers - learner.scores(features)).max() < 1e-6
    alone = structure.raw_scores(features[5:6])
    assert np.abs(alone - structure.raw_scores(features)[5:6]).max() < 1e-12
    assert structure.raw_scores(features[:0]).shape == (0, 3)


def test_it_learns_what_a_linear_model_of_pixels_cannot() -> None:
    """Whether a bar lies or stands, wherever it is."""
    rng = np.random.default_rng(0)
    targets, images = rng.integers(0, 2, 600), rng.normal(scale=0.3, size=(600, 12, 12)).astype(np.float32)
    for image, target, place in zip(images, targets, rng.integers(0, 12, (600, 2)), strict=True):
        start = place[1] // 2
        image[(place[0], slice(start, start + 6)) if target else (slice(start, start + 6), place[0])] += 1.5
    features = images.reshape(600, -1)
    data = TrainingData(
        task="binary",
        num_classes=2,
        train={"dense": Matrices(features=features[:400], targets=targets[:400])},
        validation={"dense": Matrices(features=features[400:], targets=targets[400:])},
        image=ImageShape(height=12, width=12, channels=1),
    )
    linear = FAMILIES["linear"].build(default_configuration(FAMILIES["linear"].space), data, 0)
    linear.advance(12)
    is_right = [
        float((learner.scores(features[400:]).argmax(axis=1) == targets[400:]).mean())
        for learner in (trained(data, until=8), linear)
    ]
    assert is_right[0] > 0.95
    assert is_right[1] < 0.75


def test_with_moved_images_a_resumed_training_is_the_unbroken_one_bit_for_bit() -> None:
    plain = small_images("multiclass")
    features = plain.train["dense"].features
    assert plain.image is not None
    spec = AugmentSpec(images=ImageAugmentSpec(crop=1, rotate=10, cutout=0.3), mixup=0.2)
    place = ImagePlace(start=0, shape=plain.image)
    data = replace(plain, augmentation=EpochAugmentation.of(spec, features, np.zeros(0, np.intp), (place,)))
    unbroken, paused = trained(data, until=4), trained(data, until=2)
    resumed = CONV.restore(paused.state(), CONFIGURATION, data, 3)
    resumed.advance(4)
    asked = data.validation["dense"].features
    assert resumed.scores(asked).tobytes() == unbroken.scores(asked).tobytes()
    assert resumed.scores(asked).tobytes() != trained(plain, until=4).scores(asked).tobytes()
    assert resumed.scores(asked).tobytes() != trained(data, until=4, seed=4).scores(asked).tobytes()


def test_a_net_that_was_moved_trains_to_the_same_bits_on_the_same_device() -> None:
    data = small_images("binary")
    stayed, moved = trained(data), trained(data)
    assert isinstance(moved, ConvLearner)
    moved.move_to(torch.device("cpu"))
    for learner in (stayed, moved):
        learner.advance(4)
    asked = data.validation["dense"].features
    assert moved.scores(asked).tobytes() == stayed.scores(asked).tobytes()


def test_a_table_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="models = conv learns from one image a row"):
        CONV.build(CONFIGURATION, small_data("binary"), 0)
    check_families(("conv", "mlp"), {"picture": "image"})
    check_families(("mlp",), {"age": "number"})
    with pytest.raises(DataError, match=r"nothing else; put age, other under data.exclude, or take conv out"):
        check_families(("conv",), {"picture": "image", "age": "number", "other": "image"})
    with pytest.raises(DataError, match=r"there are only age, or take conv out"):
        check_families(("conv",), {"age": "number"})


def test_it_is_warmed_up_as_the_others_are() -> None:
    warm_up(["conv"])


def test_its_work_is_that_of_its_layers() -> None:
    shape = ImageShape(height=6, width=4, channels=3)
    work = row_work({"num_blocks": 2, "width": 5}, shape, 7)
    assert work.multiply_adds == 24 * 9 * 3 * 5 + 6 * 9 * 5 * 10 + 1 * 10 * 7
    assert work.values == 24 * 5 + 6 * 10
    size = DataSize(rows=1000, columns=72, outputs=7, image=shape)
    plain, wide, moved = (
        CONV.nominal_seconds({**CONFIGURATION, "width": width}, replace(size, draws_per_row=draws), 1)
        for width, draws in ((8, 0), (16, 0), (8, 30))
    )
    assert plain < wide
    assert plain < moved
