"""What every family keeps, on every task: the same bits, resumed or not, and a structure that is the model."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mlcluster.data.schema import ImageShape, TaskKind
from mlcluster.spec import FAMILIES as FAMILY_NAMES
from mlcluster.spec import Configuration, default_configuration
from mlcluster.train import (
    FAMILIES,
    METRICS,
    ConvNet,
    DataSize,
    Family,
    Learner,
    TrainingData,
    TreeEnsemble,
    apply_link,
    as_loss,
    constant_scores,
)
from tests.train.small_data import TASKS, data_of, small_data, small_images, without_class

UNITS = {"linear": 6, "tree": 8, "forest": 3, "boosting": 3, "mlp": 6, "conv": 4}
"""Enough to have learnt something of a few hundred rows, in a fraction of a second."""

IMAGE = ImageShape(height=8, width=8, channels=1)
each_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
each_task = pytest.mark.parametrize("task", TASKS)


def configuration_of(family: Family) -> Configuration:
    """The defaults, for a table of a few hundred rows."""
    small: dict[str, dict[str, int | float]] = {
        "linear": {"batch_size": 64, "learning_rate": 0.02},
        "mlp": {"batch_size": 64, "learning_rate": 0.01},
        "conv": {"batch_size": 32, "learning_rate": 0.01, "width": 8},
    }
    return {**default_configuration(family.space), **small.get(family.name, {})}


def trained(family: Family, data: TrainingData, *, until: int, seed: int = 3) -> Learner:
    learner = family.build(configuration_of(family), data, seed)
    learner.advance(until)
    return learner


def test_the_families_are_those_that_a_project_file_may_name() -> None:
    assert tuple(FAMILIES) == FAMILY_NAMES
    assert all(name == family.name for name, family in FAMILIES.items())


@each_task
@each_family
def test_a_resumed_training_is_the_unbroken_one_bit_for_bit(family: Family, task: TaskKind) -> None:
    data, until = data_of(family, task), UNITS[family.name]
    features = data.validation[family.encoding].features
    unbroken = trained(family, data, until=until)
    resumed: Learner | None = None
    for stop in (1, 2, until):
        if resumed is None:
            resumed = family.build(configuration_of(family), data, 3)
        else:
            resumed = family.restore(resumed.state(), configuration_of(family), data, 3)
        resumed.advance(stop)
        assert resumed.units == stop
    assert resumed is not None
    assert resumed.scores(features).tobytes() == unbroken.scores(features).tobytes()
    assert bits_of(resumed) == bits_of(unbroken)


@each_task
@each_family
def test_the_seed_decides_every_bit(family: Family, task: TaskKind) -> None:
    data = data_of(family, task)
    first, again, other = (trained(family, data, until=2, seed=seed) for seed in (1, 1, 2))
    assert bits_of(first) == bits_of(again)
    assert bits_of(first) != bits_of(other)


def bits_of(learner: Learner) -> bytes:
    """The whole structure."""
    structure = learner.structure()
    if isinstance(structure, TreeEnsemble):
        parts = [structure.base]
        for tree in structure.trees:
            parts += [tree.feature, tree.threshold, tree.left, tree.right, tree.missing_left, tree.value]
    else:
        layers = (*structure.layers, *structure.head.layers) if isinstance(structure, ConvNet) else structure.layers
        parts = [part for layer in layers for part in (layer.weight, layer.bias)]
    return b"".join(np.ascontiguousarray(part).tobytes() for part in parts)


@each_task
@each_family
def test_the_structure_is_the_model(family: Family, task: TaskKind) -> None:
    """Missing values and values at the very thresholds included."""
    data = data_of(family, task)
    learner = trained(family, data, until=UNITS[family.name])
    structure = learner.structure()
    features = np.concatenate([data.validation[family.encoding].features, data.train[family.encoding].features])
    if isinstance(structure, TreeEnsemble):
        features = np.concatenate([features, at_thresholds(structure, features)])
    answers = apply_link(structure.raw_scores(features), structure.link)
    expected = learner.scores(features)
    tolerance = 1e-6 if family.name in ("forest", "conv") else 1e-9
    scale = max(1.0, float(np.abs(expected).max()))
    assert np.abs(answers.reshape(expected.shape) - expected).max() <= tolerance * scale
    if task != "regression":
        assert answers.shape == (len(features), data.num_classes)
        np.testing.assert_allclose(answers.sum(axis=1), 1.0, atol=1e-9)


def at_thresholds(structure: TreeEnsemble, features: np.ndarray) -> np.ndarray:
    """A row for each inner node, whose split feature lies at the threshold, and one where it is missing."""
    rows = []
    for tree in structure.trees[:5]:
        for node in np.flatnonzero(tree.feature >= 0):
            for value in (tree.threshold[node], np.nextafter(tree.threshold[node], np.float32(np.inf)), np.nan):
                row = features[len(rows) % len(features)].copy()
                row[tree.feature[node]] = value
                rows.append(row)
    return np.array(rows, dtype=np.float32)


@each_task
@each_family
def test_every_family_beats_the_constant_model(family: Family, task: TaskKind) -> None:
    data = data_of(family, task)
    validation = data.validation[family.encoding]
    learner = trained(family, data, until=18 if family.encoding == "dense" else UNITS[family.name])
    metric = METRICS[{"binary": "roc_auc", "multiclass": "accuracy", "regression": "r2"}[task]]
    constant = constant_scores(data.train["dense"], num_classes=data.num_classes, num_rows=len(validation))
    ours, theirs = (
        as_loss(metric.name, metric.compute(validation.targets, scores))
        for scores in (learner.scores(validation.features), constant)
    )
    assert ours < theirs - 0.1


def test_the_constant_model_answers_with_shares_or_the_mean() -> None:
    classes, values = small_data("multiclass"), small_data("regression")
    shares = constant_scores(classes.train["dense"], num_classes=3, num_rows=2)
    assert shares.shape == (2, 3)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    mean = constant_scores(values.train["dense"], num_classes=0, num_rows=2)
    np.testing.assert_allclose(mean, values.train["dense"].targets.mean())


@pytest.mark.parametrize("missing", [0, 1, 2])
@each_family
def test_a_class_that_the_train_split_never_shows_gets_no_trust_and_breaks_nothing(
    family: Family, missing: int
) -> None:
    data = without_class(data_of(family, "multiclass"), missing)
    learner = trained(family, data, until=18 if family.encoding == "dense" else UNITS[family.name])
    features = data.validation[family.encoding].features
    scores = learner.scores(features)
    assert scores.shape == (len(features), 3)
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, atol=1e-9)
    assert scores[:, missing].max() == 0.0 if family.encoding == "ordinal" else scores[:, missing].mean() < 1 / 3
    structure = learner.structure()
    answers = apply_link(structure.raw_scores(features), structure.link)
    np.testing.assert_allclose(answers, scores, atol=1e-6)
    resumed = family.restore(learner.state(), configuration_of(family), data, 3)
    assert resumed.scores(features).tobytes() == scores.tobytes()


@each_family
def test_advancing_to_where_it_is_changes_nothing(family: Family) -> None:
    learner = trained(family, data_of(family, "binary"), until=2)
    before = bits_of(learner)
    learner.advance(2)
    learner.advance(1)
    assert (learner.units, bits_of(learner)) == (2, before)


@each_family
def test_the_work_is_counted_before_it_is_done_and_grows_with_units_and_rows(family: Family) -> None:
    configuration = default_configuration(family.space)
    size, larger = (DataSize(rows=rows, columns=64, outputs=2, image=IMAGE) for rows in (10_000, 40_000))
    seconds = [family.nominal_seconds(configuration, size, units) for units in range(1, family.max_units + 1)]
    assert all(0 < low < high for low, high in itertools.pairwise(seconds))
    assert family.nominal_seconds(configuration, larger, 1) > seconds[0]


@each_family
def test_every_corner_of_a_search_space_can_be_trained(family: Family) -> None:
    data = data_of(family, "binary")
    for corner in (0.0, 1.0):
        configuration = {name: domain.at(corner) for name, domain in family.space.items()}
        learner = family.build(configuration, data, 0)
        learner.advance(1)
        assert np.isfinite(learner.scores(data.validation[family.encoding].features)).all()


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
@each_family
def test_any_seed_of_32_bits_is_taken(family: Family, seed: int) -> None:
    assert trained(family, data_of(family, "binary"), until=1, seed=seed).units == 1


@pytest.mark.parametrize("encoding", ["ordinal", "dense"])
def test_matrices_from_read_only_memory_are_trained_on_as_they_are(encoding: str) -> None:
    """Ray's object store hands out arrays that cannot be written."""
    data = small_images("binary")
    before = data.train[encoding].features.tobytes()  # type: ignore[index]
    for matrices in (data.train, data.validation):
        matrices[encoding].features.setflags(write=False)  # type: ignore[index]
    try:
        for family in FAMILIES.values():
            if family.encoding == encoding:
                learner = trained(family, data, until=1)
                assert np.isfinite(learner.scores(data.validation[family.encoding].features)).all()
    finally:
        for matrices in (data.train, data.validation):
            matrices[encoding].features.setflags(write=True)  # type: ignore[index]
    assert data.train[encoding].features.tobytes() == before  # type: ignore[index]
