from __future__ import annotations

import numpy as np
import pytest

from mlcluster.train import METRICS, paired_difference, predicted_classes, score_arm
from tests.train.small_data import small_data


def test_an_interval_by_hand() -> None:
    found = paired_difference([0.8, 0.9, 1.0], [0.7, 0.7, 0.7], test_per_train_rows=None)
    half = 4.302653 * 0.1 / 3**0.5
    assert (found.mean, found.difference) == pytest.approx((0.9, 0.2))
    assert (found.low, found.high) == pytest.approx((0.2 - half, 0.2 + half), rel=1e-5)
    assert found.verdict == "not shown"


def test_overlapping_train_rows_widen_the_interval() -> None:
    pairs = [0.81, 0.82, 0.83], [0.7, 0.7, 0.7]
    alone = paired_difference(*pairs, test_per_train_rows=None)
    split_anew = paired_difference(*pairs, test_per_train_rows=1 / 3)
    assert split_anew.high - split_anew.low == pytest.approx(2**0.5 * (alone.high - alone.low))
    assert alone.verdict == "helped"
    assert paired_difference(*pairs[::-1], test_per_train_rows=None).verdict == "hurt"


def test_intervals_of_no_difference_hold_zero_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(2000, 2, 5))
    holds = [(found := paired_difference(*pair, test_per_train_rows=None)).low <= 0 <= found.high for pair in draws]
    assert 0.935 < np.mean(holds) < 0.965


def test_a_groups_recall_is_the_share_of_its_rows_that_are_answered_right() -> None:
    data = small_data("binary")
    targets = data.validation["ordinal"].targets
    groups = {"rare": np.flatnonzero(targets == 0), "none": np.array([], dtype=np.int64)}
    found = score_arm(data, "tree", metric="accuracy", seed=0, groups=groups)
    from mlcluster.spec import default_configuration
    from mlcluster.train import FAMILIES

    learner = FAMILIES["tree"].build(default_configuration(FAMILIES["tree"].space), data, 0)
    learner.advance(8)
    scores = learner.scores(data.validation["ordinal"].features)
    assert found.metric == METRICS["accuracy"].compute(targets, scores)
    right = predicted_classes(scores)[targets == 0] == 0
    assert dict(found.group_recall) == {"rare": right.mean()}
