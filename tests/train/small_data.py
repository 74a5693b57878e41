"""Small real tables as learners see them."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from mlcluster.data.schema import TaskKind
from mlcluster.train import Encoding, Matrices, TrainingData

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


def without_class(data: TrainingData, missing: int) -> TrainingData:
    """The same data, where the train split happens to hold no row of one class."""
    kept = data.train["dense"].targets != missing
    train: dict[Encoding, Matrices] = {
        encoding: Matrices(features=matrices.features[kept], targets=matrices.targets[kept])
        for encoding, matrices in data.train.items()
    }
    return TrainingData(task=data.task, num_classes=data.num_classes, train=train, validation=data.validation)


def _matrices(
    raw: npt.NDArray[np.float32], dense: npt.NDArray[np.float32], targets: npt.NDArray[np.int64]
) -> dict[Encoding, Matrices]:
    return {
        "ordinal": Matrices(features=np.ascontiguousarray(raw), targets=targets),
        "dense": Matrices(features=np.ascontiguousarray(dense), targets=targets),
    }
