"""A family with its defaults, taught in a second or two: for what is to be told of data, and never served."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from mlcluster.spec import default_configuration
from mlcluster.train import FAMILIES, TrainingData


def quick_scores(
    name: str, units: int, data: TrainingData, asked: npt.NDArray[np.float32], *, seed: int
) -> npt.NDArray[np.float64]:
    """What the family makes of the rows asked about: probabilities (m, k), or values (m,)."""
    family = FAMILIES[name]
    # OpenMP's threads wait for one another by spinning: on a busy machine that takes a hundred times as long.
    with threadpool_limits(limits=1):
        learner = family.build(default_configuration(family.space), data, seed)
        learner.advance(units)
        return learner.scores(asked)
