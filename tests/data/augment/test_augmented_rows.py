from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mlcluster.data.augment import (
    EpochAugmentation,
    copies,
    draw_mixture,
    interpolations,
    num_extra_rows,
)
from mlcluster.spec import AugmentSpec

COLUMNS = np.array([0, 2])


def matrix(num_rows: int = 500) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(num_rows, 4)) * [1, 1, 10, 1]).astype(np.float32)


def rule(noise: float = 0.1, mixup: float = 0.0) -> EpochAugmentation:
    found = EpochAugmentation.of(AugmentSpec(noise=noise, mixup=mixup), matrix(), COLUMNS)
    assert found is not None
    return found


def test_noise_is_a_share_of_each_columns_spread_and_on_numbers_only() -> None:
    features = matrix(20_000)
    found = EpochAugmentation.of(AugmentSpec(noise=0.1), features, COLUMNS)
    assert found is not None
    added = found.made(features, np.arange(20_000), seed=0, epoch=0)[0] - features
    assert added.std(axis=0) == pytest.approx([0.1, 0, 1.0, 0], rel=0.03)
    assert abs(added.mean(axis=0)).max() < 0.03


@pytest.mark.parametrize("augmentation", [rule(), rule(0.0, 0.4), rule(0.1, 0.4)], ids=["noise", "mixup", "both"])
@given(order=st.permutations(range(40)), cuts=st.sets(st.integers(1, 39), max_size=5))
def test_a_row_is_made_the_same_in_any_batch_and_order(
    augmentation: EpochAugmentation, order: list[int], cuts: set[int]
) -> None:
    features = matrix()
    whole, _ = augmentation.made(features, np.arange(40), seed=3, epoch=7)
    for part in np.split(np.array(order), sorted(cuts)):
        assert np.array_equal(augmentation.made(features, part, seed=3, epoch=7)[0], whole[part])


@pytest.mark.parametrize("augmentation", [rule(), rule(0.0, 0.4)], ids=["noise", "mixup"])
def test_the_same_seed_and_epoch_give_the_same_rows_and_others_give_others(augmentation: EpochAugmentation) -> None:
    features, rows = matrix(), np.arange(500)
    first = augmentation.made(features, rows, seed=1, epoch=0)[0]
    assert np.array_equal(first, augmentation.made(features, rows, seed=1, epoch=0)[0])
    for seed, epoch in ((2, 0), (1, 1)):
        assert (first != augmentation.made(features, rows, seed=seed, epoch=epoch)[0]).any(axis=1).mean() > 0.9


def test_a_mixed_row_lies_between_two_train_rows_with_its_share_of_beta() -> None:
    features, rows = matrix(), np.arange(500)
    made, mixture = rule(0.0, 0.4).made(features, rows, seed=1, epoch=0)
    assert mixture is not None
    share = mixture.own_share[:, np.newaxis]
    assert made == pytest.approx(share * features + (1 - share) * features[mixture.partners], abs=1e-5)
    many = draw_mixture(np.arange(20_000), alpha=0.4, num_rows=500, seed=0, epoch=0)
    assert stats.kstest(many.own_share, stats.beta(0.4, 0.4).cdf).pvalue > 0.001
    assert (many.partners.min(), many.partners.max()) == (0, 499)


@given(
    groups=st.lists(st.tuples(st.integers(1, 50), st.floats(0.01, 0.3)), min_size=1, max_size=3),
    others=st.integers(0, 500),
)
def test_each_group_has_its_share_and_one_row_less_would_not_do(groups: list[tuple[int, float]], others: int) -> None:
    sizes, shares = [size for size, _ in groups], [share for _, share in groups]
    num_rows = sum(sizes) + others
    extra = num_extra_rows(sizes, num_rows, shares)
    whole = num_rows + sum(extra)
    for size, share, more in zip(sizes, shares, extra, strict=True):
        assert size + more >= share * whole - 1e-6
        if more:
            assert size + more - 1 < share * whole


def test_a_share_by_hand() -> None:
    assert num_extra_rows([10], 100, [0.25]) == [20]  # 30 of 120
    assert num_extra_rows([30], 100, [0.25]) == [0]


def test_copies_take_each_member_as_often_as_any_other_to_one_row() -> None:
    members = np.array([3, 5, 8, 13])
    found = copies(members, count=11, seed=0, group=0)
    counts = np.bincount(found.base)[members]
    assert sorted(counts) == [2, 3, 3, 3]
    assert np.array_equal(found.of(matrix(), COLUMNS), matrix()[found.base])


def drawn(seed: int, *, is_interpolated: bool) -> Sequence[int]:
    members, targets = np.arange(0, 40, 2), np.zeros(500, dtype=np.int64)
    if is_interpolated:
        found = interpolations(members, targets, matrix(), count=30, seed=seed, group=0)
        return [*found.base.tolist(), *found.neighbour.tolist(), *found.weight.tolist()]
    return copies(members, count=30, seed=seed, group=0).base.tolist()


@pytest.mark.parametrize("is_interpolated", [False, True])
def test_a_seed_says_which_rows_are_made(is_interpolated: bool) -> None:
    assert drawn(1, is_interpolated=is_interpolated) == drawn(1, is_interpolated=is_interpolated)
    assert drawn(1, is_interpolated=is_interpolated) != drawn(2, is_interpolated=is_interpolated)


def test_an_interpolated_row_lies_between_two_near_members_of_one_target_and_keeps_its_categories() -> None:
    features = matrix()
    targets = np.arange(500) % 3
    members = np.flatnonzero(targets < 2)[:60]
    found = interpolations(members, targets, features, count=100, seed=0, group=0)
    assert set(found.base) | set(found.neighbour) <= set(members)
    assert (targets[found.base] == targets[found.neighbour]).all()
    assert (found.base != found.neighbour).all()
    made = found.of(features, COLUMNS)
    ends = np.stack([features[found.base], features[found.neighbour]])
    assert (made >= ends.min(axis=0) - 1e-5)[:, COLUMNS].all()
    assert (made <= ends.max(axis=0) + 1e-5)[:, COLUMNS].all()
    assert np.array_equal(made[:, [1, 3]], features[found.base][:, [1, 3]])
    ranks = [
        np.argsort(
            np.argsort(np.linalg.norm(features[members[targets[members] == targets[base]]] - features[base], axis=1))
        )[np.flatnonzero(members[targets[members] == targets[base]] == near)[0]]
        for base, near in zip(found.base, found.neighbour, strict=True)
    ]
    assert max(ranks) <= 5


def test_what_is_missing_stays_missing_and_a_lone_member_is_copied() -> None:
    features = matrix()
    features[4, 0] = np.nan
    dense = np.nan_to_num(features)
    found = interpolations(np.array([4, 6]), np.zeros(500), dense, count=4, seed=0, group=0)
    made = found.of(features, COLUMNS)
    assert np.isnan(made[found.base == 4, 0]).all()
    assert np.array_equal(made[found.base == 6, 0], np.repeat(features[6, 0], 2))
    alone = interpolations(np.array([4]), np.zeros(500), dense, count=3, seed=0, group=0)
    assert alone.base.tolist() == alone.neighbour.tolist() == [4, 4, 4]
