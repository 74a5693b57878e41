"""Nets whose train rows are made anew in each epoch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mlcluster.data.augment import EpochAugmentation
from mlcluster.data.schema import TaskKind
from mlcluster.spec import AugmentSpec, default_configuration
from mlcluster.train import FAMILIES, DataSize, Learner, Span, TrainingData
from mlcluster.train.augmented import AugmentedRows
from tests.train.small_data import TASKS, small_data

CONFIGURATION = {**default_configuration(FAMILIES["mlp"].space), "batch_size": 64, "width": 16}
SPECS = {"noise": AugmentSpec(noise=0.2), "mixup": AugmentSpec(mixup=0.3), "both": AugmentSpec(noise=0.2, mixup=0.3)}
each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))
each_task = pytest.mark.parametrize("task", TASKS)


def augmented_data(task: TaskKind, spec: AugmentSpec) -> TrainingData:
    data = small_data(task)
    features = data.train["dense"].features
    return replace(data, augmentation=EpochAugmentation.of(spec, features, np.arange(features.shape[1])))


def scores_of(learner: Learner, data: TrainingData) -> bytes:
    return learner.scores(data.validation["dense"].features).tobytes()


@each_task
@each_spec
def test_a_resumed_training_is_the_unbroken_one_bit_for_bit(spec: AugmentSpec, task: TaskKind) -> None:
    data, family = augmented_data(task, spec), FAMILIES["mlp"]
    unbroken = family.build(CONFIGURATION, data, 3)
    unbroken.advance(4)
    paused = family.build(CONFIGURATION, data, 3)
    paused.advance(2)
    resumed = family.restore(paused.state(), CONFIGURATION, data, 3)
    resumed.advance(4)
    assert scores_of(unbroken, data) == scores_of(resumed, data)


@each_spec
def test_augmentation_changes_what_is_learnt_and_a_seed_says_how(spec: AugmentSpec) -> None:
    data = augmented_data("binary", spec)
    found = []
    for rows, seed in ((data, 1), (data, 1), (data, 2), (replace(data, augmentation=None), 1)):
        learner = FAMILIES["mlp"].build(CONFIGURATION, rows, seed)
        learner.advance(2)
        found.append(scores_of(learner, data))
    assert found[0] == found[1]
    assert len(set(found)) == 3


@each_task
def test_it_learns_from_mixed_and_noisy_rows(task: TaskKind) -> None:
    data = augmented_data(task, SPECS["both"])
    learner = FAMILIES["mlp"].build({**CONFIGURATION, "learning_rate": 0.01}, data, 0)
    learner.advance(60)
    scores, targets = learner.scores(data.validation["dense"].features), data.validation["dense"].targets
    if task == "regression":
        assert np.corrcoef(scores, targets)[0, 1] > 0.5
    else:
        assert (scores.argmax(axis=1) == targets).mean() > 0.9


def test_batches_hold_each_row_once_with_targets_that_are_mixed_as_the_rows_are() -> None:
    data = augmented_data("multiclass", SPECS["mixup"])
    assert data.augmentation is not None
    features, targets = data.train["dense"].features, data.train["dense"].targets
    rows = AugmentedRows(data.augmentation, features, torch.from_numpy(targets), data.num_classes, 5)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(targets)))
    batches = list(rows.batches(order, size=32, epoch=1))
    assert [len(part) for part, _ in batches] == [32] * (len(targets) // 32) + [len(targets) % 32]
    made, mixture = data.augmentation.made(features, order.numpy(), seed=5, epoch=1)
    assert mixture is not None
    assert np.array_equal(torch.cat([part for part, _ in batches]).numpy(), made)
    classes = np.eye(data.num_classes)
    share = mixture.own_share[:, np.newaxis]
    wanted = share * classes[targets[order]] + (1 - share) * classes[targets[mixture.partners]]
    assert torch.cat([part for _, part in batches]).numpy() == pytest.approx(wanted, abs=1e-6)


def test_augmented_nets_cost_more_and_are_not_trained_together() -> None:
    family, plain = FAMILIES["mlp"], DataSize(rows=10_000, columns=20, outputs=2)
    size = replace(plain, draws_per_row=20)
    assert augmented_data("binary", SPECS["noise"]).size("dense").draws_per_row == 30
    assert family.nominal_seconds(CONFIGURATION, size, 3) > family.nominal_seconds(CONFIGURATION, plain, 3)
    span = Span(configuration=CONFIGURATION, start_units=0, stop_units=2)
    assert family.together is not None
    assert family.together.nominal_seconds([span, span], size) == float("inf")
    assert family.together.nominal_seconds([span], size) == family.nominal_seconds(CONFIGURATION, size, 2)
