"""Small real tables as learners see them."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine

from mlcluster.data.schema import ImageShape, TaskKind
from mlcluster.train import Encoding, Family, Matrices, TrainingData

TASKS: tuple[TaskKind, ...] = ("binary", "multiclass", "regression")
_LOADERS = {"binary": load_breast_cancer, "multiclass": load_wine, "regression": load_diabetes}


@functools.cache
def small_data(task: TaskKind) -> TrainingData:
    """Three quarters train, a quarter validation; of the raw features, some values of the first column are missing."""
    features, targets = _LOADERS[task](return_X_y=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(targets))
    features, targets = features[order], targets[order]
    raw = features.astype(np.float32)
    raw[rng.random(len(raw)) < 0.1, 0] = np.nan
    dense = ((features - features.mean(axis=0)) / features.std(axis=0)).astype(np.float32)
    targets = targets.astype(np.float64 if task == "regression" else np.int64)
    num_train = len(targets) * 3 // 4
    num_classes = 0 if task == "regression" else int(targets.max()) + 1
    return TrainingData(
        task=task,
        num_classes=num_classes,
        train=_matrices(raw[:num_train], dense[:num_train], targets[:num_train]),
        validation=_matrices(raw[num_train:], dense[num_train:], targets[num_train:]),
    )


@functools.cache
def small_images(task: TaskKind) -> TrainingData:
    """400 handwritten digits, 8 x 8: which is even, which of the first three it is, or how much ink there is."""
    pixels, digits = load_digits(return_X_y=True)
    kept = np.flatnonzero(digits < 3) if task == "multiclass" else np.arange(len(digits))
    pixels, digits = pixels[kept[:400]], digits[kept[:400]]
    targets = {"binary": digits % 2, "multiclass": digits, "regression": pixels.sum(axis=1)}[task]
    raw = (pixels / 16).astype(np.float32)
    dense = ((raw - raw.mean()) / raw.std()).astype(np.float32)
    targets = targets.astype(np.float64 if task == "regression" else np.int64)
    return TrainingData(
        task=task,
        num_classes=0 if task == "regression" else int(targets.max()) + 1,
        train=_matrices(raw[:300], dense[:300], targets[:300]),
        validation=_matrices(raw[300:], dense[300:], targets[300:]),
        image=ImageShape(height=8, width=8, channels=1),
    )


def data_of(family: Family, task: TaskKind) -> TrainingData:
    """What the family learns from: a table, or images."""
    return small_images(task) if family.name == "conv" else small_data(task)


def without_class(data: TrainingData, missing: int) -> TrainingData:
    """The same data, where the train split happens to hold no row of one class."""
    kept = data.train["dense"].targets != missing
    train: dict[Encoding, Matrices] = {
        encoding: Matrices(features=matrices.features[kept], targets=matrices.targets[kept])
        for encoding, matrices in data.train.items()
    }
    return replace(data, train=train)


def _matrices(
    raw: npt.NDArray[np.float32], dense: npt.NDArray[np.float32], targets: npt.NDArray[np.int64]
) -> dict[Encoding, Matrices]:
    return {
        "ordinal": Matrices(features=np.ascontiguousarray(raw), targets=targets),
        "dense": Matrices(features=np.ascontiguousarray(dense), targets=targets),
    }
