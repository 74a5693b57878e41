"""Did it help? One family with its defaults on each variant of the train split, over seeds, as paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcluster.spec import default_configuration
from mlcluster.train.families import FAMILIES
from mlcluster.train.learner import TrainingData
from mlcluster.train.metrics import METRICS, predicted_classes


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmScores:
    """One variant under one seed: the metric, and of the watched groups' validation rows those answered right."""

    metric: float
    group_recall: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A mean over seeds, less that without augmentation, with the 95 % interval of the mean difference."""

    mean: float
    difference: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """What may be said of a quantity that is better when it is higher."""
        if self.low > 0:
            return "helped"
        return "hurt" if self.high < 0 else "not shown"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict}


def score_arm(
    data: TrainingData, family_name: str, *, metric: str, seed: int, groups: Mapping[str, npt.NDArray[np.int64]]
) -> ArmScores:
    """The family's default configuration, trained in full on `data`, scored on the validation split.

    `groups` are numbers of validation rows. For a group that is a class, the share answered right is its recall.
    """
    family = FAMILIES[family_name]
    learner = family.build(default_configuration(family.space), data, seed)
    learner.advance(family.max_units)
    validation = data.validation[family.encoding]
    scores = learner.scores(validation.features)
    value = float(METRICS[metric].compute(validation.targets, scores))
    if data.task == "regression":
        return ArmScores(metric=value, group_recall={})
    is_right = predicted_classes(scores) == validation.targets
    return ArmScores(
        metric=value, group_recall={name: float(is_right[rows].mean()) for name, rows in groups.items() if len(rows)}
    )


def paired_difference(
    with_it: Sequence[float], without: Sequence[float], *, test_per_train_rows: float | None
) -> Difference:
    """Of two or more pairs of scores, one a seed, with a 95 % t interval.

    Where each seed splits the rows anew, the train rows of seeds overlap and scores are not independent: the variance
    is widened by `test_per_train_rows` (Nadeau and Bengio 2003, "Inference for the generalization error", eq. 9). None
    where the split is the same for all seeds: the interval then is of the training's own randomness.
    """
    from scipy import stats

    differences = np.subtract(with_it, without)
    count = len(differences)
    variance = float(differences.var(ddof=1)) * (1 / count + (test_per_train_rows or 0.0))
    half = float(stats.t.ppf(0.975, count - 1)) * variance**0.5
    middle = float(differences.mean())
    return Difference(mean=float(np.mean(with_it)), difference=middle, low=middle - half, high=middle + half)
