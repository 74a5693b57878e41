"""The families that a project file may name.

What a family trains with, torch or scikit-learn, is imported when the family is first asked for: it takes a second or
two, and a replica that serves, or a verb that trains nothing, has no use for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module

import numpy as np

from mlcluster.data.schema import ImageShape
from mlcluster.errors import DataError
from mlcluster.spec import Device, default_configuration
from mlcluster.train.learner import Family, Matrices, TrainingData

_MODULES = {
    "linear": "dense",
    "tree": "trees",
    "forest": "trees",
    "boosting": "trees",
    "mlp": "dense",
    "conv": "conv",
}
"""Where each is, under its name in capitals; from the simplest to the most complex."""


class _Families(Mapping[str, Family]):
    def __init__(self) -> None:
        self._known: dict[str, Family] = {}

    def __getitem__(self, name: str) -> Family:
        if name not in self._known:
            self._known[name] = getattr(import_module(f"mlcluster.train.{_MODULES[name]}"), name.upper())
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in _MODULES

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


FAMILIES: Mapping[str, Family] = _Families()
"""By name, from the simplest to the most complex."""


def check_families(names: Iterable[str], kinds: Mapping[str, str]) -> None:
    """That the families can learn from features of these kinds, by name.

    Raises:
        DataError: conv is among them, and a row is something else than one image.
    """
    if "conv" in names and list(kinds.values()) != ["image"]:
        images = [name for name, kind in kinds.items() if kind == "image"]
        others = [name for name in kinds if name not in images[:1]]
        shown = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        fix = f"put {shown} under data.exclude" if images else f"there are only {shown}"
        raise DataError(f"models = conv learns from one image a row and nothing else; {fix}, or take conv out.")


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
        image=ImageShape(height=1, width=1, channels=1),
    )
    for family in (FAMILIES[name] for name in names if device in FAMILIES[name].devices):
        learner = family.build(default_configuration(family.space), data, 0)
        if device == "gpu" and family.on_gpu is not None:
            family.on_gpu.move(learner)
        learner.advance(1)
        learner.scores(few.features)
