"""The families that a project file may name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np

from mlcluster.spec import Device, default_configuration
from mlcluster.train.dense import LINEAR, MLP
from mlcluster.train.learner import Family, Matrices, TrainingData
from mlcluster.train.trees import BOOSTING, FOREST, TREE

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {family.name: family for family in (LINEAR, TREE, FOREST, BOOSTING, MLP)}
)
"""By name, from the simplest to the most complex."""


def warm_up(names: Iterable[str], device: Device = "cpu") -> None:
    """Trains one unit of each family on four rows, so that no trial pays for imports that happen at first use.

    torch imports its compiler with its first optimiser, which takes four seconds on a slow core. On a GPU only the
    families that may train there are warmed up.

    Raises:
        ClusterError: the device cannot be used.
    """
    few = Matrices(features=np.array([[0.0], [1.0], [2.0], [3.0]], dtype=np.float32), targets=np.array([0, 1, 0, 1]))
    data = TrainingData(
        task="binary",
        num_classes=2,
        train={"ordinal": few, "dense": few},
        validation={"ordinal": few, "dense": few},
    )
    for family in (FAMILIES[name] for name in names if device in FAMILIES[name].devices):
        learner = family.build(default_configuration(family.space), data, 0)
        if device == "gpu" and family.on_gpu is not None:
            family.on_gpu.move(learner)
        learner.advance(1)
        learner.scores(few.features)
