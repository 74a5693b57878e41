"""What a split at random would have promised, where the split is by time: the two are often far apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from mlcluster.data import DatasetSnapshot
from mlcluster.spec import default_configuration
from mlcluster.train import FAMILIES, METRICS, Matrices, TrainingData, default_metric

# Enough to tell the two splits apart, and a second or two.
_MAX_TRAIN_ROWS, _MAX_TEST_ROWS = 20_000, 10_000
_BOOSTING_UNITS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeGap:
    """Boosting with its defaults, taught as many rows, scored on what came later and on rows drawn at random."""

    metric: str
    by_time: float
    at_random: float
    num_train_rows: int
    num_test_rows: int

    def __str__(self) -> str:
        return (
            f"by time, boosting has {self.metric} {self.by_time:.3f} on the test rows; a split at random would have "
            f"said {self.at_random:.3f} ({self.num_train_rows} train rows)"
        )


def measure_time_gap(snapshot: DatasetSnapshot, seed: int) -> TimeGap | None:
    """None where the split is not by time. Train and test rows as they are, then the same rows shuffled."""
    if snapshot.manifest["identity"]["split"]["kind"] != "time":
        return None
    rng = np.random.default_rng(seed)
    train = _part(snapshot, "train", _MAX_TRAIN_ROWS, rng)
    test = _part(snapshot, "test", _MAX_TEST_ROWS, rng)
    features = np.concatenate([train.features, test.features])
    targets = np.concatenate([train.targets, test.targets])
    order = rng.permutation(len(targets))
    cut = len(train.targets)
    metric = default_metric(snapshot.schema.target.task)
    return TimeGap(
        metric=metric,
        by_time=_score(snapshot, train, test, metric, seed),
        at_random=_score(
            snapshot,
            Matrices(features=features[order[:cut]], targets=targets[order[:cut]]),
            Matrices(features=features[order[cut:]], targets=targets[order[cut:]]),
            metric,
            seed,
        ),
        num_train_rows=cut,
        num_test_rows=len(targets) - cut,
    )


def _part(snapshot: DatasetSnapshot, split: str, limit: int, rng: np.random.Generator) -> Matrices:
    features, targets = snapshot.matrices(split, "ordinal")
    rows: npt.NDArray[np.intp] = np.sort(rng.permutation(len(targets))[:limit])
    return Matrices(features=features[rows], targets=targets[rows])


def _score(snapshot: DatasetSnapshot, train: Matrices, test: Matrices, metric: str, seed: int) -> float:
    target = snapshot.schema.target
    data = TrainingData(task=target.task, num_classes=len(target.classes), train={"ordinal": train}, validation={})
    family = FAMILIES["boosting"]
    # OpenMP's threads wait for one another by spinning: on a busy machine that takes a hundred times as long.
    with threadpool_limits(limits=1):
        learner = family.build(default_configuration(family.space), data, seed)
        learner.advance(_BOOSTING_UNITS)
        return float(METRICS[metric].compute(test.targets, learner.scores(test.features)))
