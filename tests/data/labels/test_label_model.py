"""Label functions and annotators whose truth was planted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlcluster.data.labels import (
    ABSTAINED,
    Votes,
    cohen_kappas,
    dawid_skene,
    fit_label_model,
    krippendorff_alpha,
    majority,
)
from mlcluster.data.labels.independence import may_tell_shares, unexplained_correlation

Codes = np.ndarray[Any, np.dtype[np.int64]]
SEEDS = range(8)


def planted(seed: int, accuracies: list[float], *, coverage: float = 0.6, num_rows: int = 2000) -> tuple[Codes, Codes]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, num_rows)
    shape = (num_rows, len(accuracies))
    codes = np.where(rng.random(shape) < accuracies, truth[:, None], 1 - truth[:, None])
    codes[rng.random(shape) > coverage] = ABSTAINED
    return truth, codes


def with_copies(seed: int) -> tuple[Codes, Codes]:
    """Three functions of 0.6 that nearly always say the same, and five better ones."""
    truth, codes = planted(seed, [0.6, 0.6, 0.6, 0.7, 0.75, 0.8, 0.7, 0.75])
    rng = np.random.default_rng(seed + 1000)
    for copy in (1, 2):
        codes[:, copy] = np.where(rng.random(len(codes)) < 0.9, codes[:, 0], codes[:, copy])
    return truth, codes


def model_of(codes: Codes, known: Codes | None = None) -> Any:
    names = tuple(f"f{index}" for index in range(codes.shape[1]))
    return fit_label_model(codes, names=names, num_classes=2, known=known)


def right_share(posterior: np.ndarray[Any, Any], truth: Codes) -> float:
    return float((posterior.argmax(axis=1) == truth).mean())


def voted(codes: Codes) -> np.ndarray[Any, Any]:
    shares = majority(Votes.of_matrix(codes, num_classes=2))
    return np.asarray(shares + 1e-6 * np.random.default_rng(0).random(shares.shape))


@pytest.mark.parametrize("plant", [lambda seed: planted(seed, [0.55, 0.6, 0.65, 0.7, 0.8, 0.9]), with_copies])
def test_the_label_model_beats_majority_vote_over_seeds(plant: Any) -> None:
    gains = []
    for seed in SEEDS:
        truth, codes = plant(seed)
        gains.append(right_share(model_of(codes).posterior, truth) - right_share(voted(codes), truth))
    gains = np.array(gains)
    assert gains.mean() - 2.365 * gains.std(ddof=1) / np.sqrt(len(gains)) > 0.01  # 95 % interval, 7 degrees of freedom


def test_accuracies_are_estimated_within_five_points() -> None:
    for seed in SEEDS:
        truth, codes = planted(seed, [0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9])
        for index, function in enumerate(model_of(codes).functions):
            given = codes[:, index] != ABSTAINED
            assert abs(function.accuracy - (codes[given, index] == truth[given]).mean()) < 0.05


def uneven(seed: int, num_rows: int = 2000, first_share: float = 0.8) -> tuple[Codes, Codes]:
    """Ten functions that err on their own, two in three times right or more, of classes 80 to 20."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(num_rows) >= first_share).astype(np.int64)
    shape = (num_rows, 10)
    codes = np.where(rng.random(shape) < rng.uniform(0.55, 0.9, 10), truth[:, None], 1 - truth[:, None])
    codes[rng.random(shape) > 0.5] = ABSTAINED
    return truth, codes


@pytest.mark.parametrize("first_share", [0.8, 0.2, 0.65])
def test_independent_functions_tell_how_frequent_classes_are(first_share: float) -> None:
    """The majority takes 80 to 20 for about 63 to 37, and functions then for worse than they are by up to 0.11."""
    for seed in range(20):
        truth, codes = uneven(seed, first_share=first_share)
        model = model_of(codes)
        assert model.posterior[:, 0].mean() == pytest.approx(1 - truth.mean(), abs=0.05)
        for index, function in enumerate(model.functions):
            labelled = codes[:, index] != ABSTAINED
            true = float((codes[labelled, index] == truth[labelled]).mean())
            assert abs(function.accuracy - true) < 0.06


def test_functions_that_look_at_the_same_things_are_told_from_independent_ones() -> None:
    """Two things are looked at, each by every second function; without noticing, EM takes them for the classes."""
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        truth = (rng.random(3000) < 0.25).astype(np.int64)
        seen = [np.where(rng.random(3000) < 0.7, truth, rng.integers(0, 2, 3000)) for _ in range(2)]
        codes = np.stack(
            [np.where(rng.random(3000) < 0.8, seen[index % 2], rng.integers(0, 2, 3000)) for index in range(6)], axis=1
        )
        shares = {"by_majority": np.array([0.64, 0.36]), "learned": np.array([0.7, 0.3])}
        assert unexplained_correlation(codes, np.ones(6)) > 0.05
        assert not may_tell_shares(codes, np.ones(6), **shares)
        assert may_tell_shares(uneven(seed)[1], np.ones(10), **shares)


def test_three_functions_leave_nothing_to_check_and_shares_to_the_majority() -> None:
    _, codes = uneven(0)
    assert unexplained_correlation(codes[:, :3], np.ones(3)) == float("inf")
    assert unexplained_correlation(codes, np.ones(10)) < 0.03
    assert unexplained_correlation(np.zeros((100, 5), dtype=np.int64), np.ones(5)) == float("inf")


def test_shares_on_the_near_side_of_the_majority_are_not_believed() -> None:
    _, codes = uneven(0)
    by_majority = np.array([0.63, 0.37])
    for learned, is_believed in (((0.8, 0.2), True), ((0.55, 0.45), False), ((0.3, 0.7), False)):
        found = may_tell_shares(codes, np.ones(10), by_majority=by_majority, learned=np.array(learned))
        assert found is is_believed


def test_copies_share_one_vote_and_others_keep_theirs() -> None:
    _, codes = with_copies(0)
    weights = [function.weight for function in model_of(codes).functions]
    assert all(0.3 < weight < 0.45 for weight in weights[:3])
    assert weights[3:] == [1.0] * 5


@pytest.mark.parametrize("num_functions", [1, 2, 3])
def test_few_functions_are_not_taken_for_copies_of_each_other(num_functions: int) -> None:
    _, codes = planted(0, [0.9] * num_functions)
    assert [function.weight for function in model_of(codes).functions] == [1.0] * num_functions


def test_a_function_that_names_one_class_only_is_read_by_its_silence_too() -> None:
    """Half of the functions name class 1 or nothing, half class 0, and the classes are not equally frequent."""
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        truth = (rng.random(2000) < 0.2).astype(np.int64)
        codes = np.where(rng.random((2000, 6)) < 0.9, truth[:, None], 1 - truth[:, None])
        codes[rng.random((2000, 6)) > 0.6] = ABSTAINED
        for index in range(6):
            codes[codes[:, index] != index % 2, index] = ABSTAINED
        assert right_share(model_of(codes).posterior, truth) > right_share(voted(codes), truth)


def test_coverage_overlap_and_conflict_of_a_table_by_hand() -> None:
    a = ABSTAINED
    codes = np.array([[0, 0, a], [1, 0, a], [a, 1, a], [a, a, a]])
    first, second, third = model_of(codes).functions
    assert (first.coverage_share, first.overlap_share, first.conflict_share) == (0.5, 0.5, 0.25)
    assert (second.coverage_share, second.overlap_share, second.conflict_share) == (0.75, 0.5, 0.25)
    assert third.coverage_share == 0
    assert third.to_json()["accuracy"] is None


def test_known_labels_stand_as_they_are_and_are_what_functions_are_held_against() -> None:
    truth, codes = planted(1, [0.7, 0.75, 0.8])
    known = np.where(np.arange(len(truth)) < 100, truth, ABSTAINED)
    model = model_of(codes, known)
    assert right_share(model.posterior[:100], truth[:100]) == 1.0
    given = (codes[:, 0] != ABSTAINED) & (known != ABSTAINED)
    assert model.functions[0].known_accuracy == pytest.approx((codes[given, 0] == truth[given]).mean())


def crowd(seed: int) -> tuple[Codes, Votes]:
    """Ten annotators of 400 rows, four answers a row; three of them answer by lot."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, 400)
    items = np.repeat(np.arange(400), 4)
    voters = np.concatenate([rng.choice(10, 4, replace=False) for _ in range(400)])
    is_right = rng.random(len(items)) < np.where(voters < 3, 1 / 3, 0.8)
    labels = np.where(is_right, truth[items], (truth[items] + rng.integers(1, 3, len(items))) % 3)
    return truth, Votes(items=items, voters=voters, labels=labels, num_items=400, num_voters=10, num_classes=3)


def test_dawid_and_skene_beat_the_majority_of_annotators_over_seeds() -> None:
    gains = []
    for seed in SEEDS:
        truth, votes = crowd(seed)
        shares = majority(votes) + 1e-6 * np.random.default_rng(0).random((400, 3))
        gains.append(right_share(dawid_skene(votes).posterior, truth) - right_share(shares, truth))
    assert np.mean(gains) - 2.365 * np.std(gains, ddof=1) / np.sqrt(len(gains)) > 0.02


def test_annotators_who_answer_by_lot_are_told_from_the_others() -> None:
    _, votes = crowd(0)
    accuracies = dawid_skene(votes).accuracies
    assert accuracies[:3].max() < 0.5
    assert accuracies[3:].min() > 0.7


def test_a_rows_votes_may_come_in_any_order() -> None:
    _, votes = crowd(0)
    order = np.random.default_rng(1).permutation(len(votes.items))
    shuffled = Votes(
        items=votes.items[order],
        voters=votes.voters[order],
        labels=votes.labels[order],
        num_items=votes.num_items,
        num_voters=votes.num_voters,
        num_classes=votes.num_classes,
    )
    assert np.allclose(dawid_skene(votes).posterior, dawid_skene(shuffled).posterior)


def test_cohens_kappa_by_hand() -> None:
    """Cohen (1960): 20 yes by both, 15 no by both, 5 and 10 apart: observed 0.7, expected 0.5."""
    codes = np.array([[1, 1]] * 20 + [[1, 0]] * 5 + [[0, 1]] * 10 + [[0, 0]] * 15)
    kappas = cohen_kappas(Votes.of_matrix(codes, num_classes=2))
    assert kappas[0, 1] == pytest.approx(0.4)
    assert np.isnan(kappas[0, 0])


def test_krippendorffs_alpha_by_his_own_example() -> None:
    """Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), part C: nominal, four observers, 0.743."""
    a = ABSTAINED
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, a, a, a],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, a, 3],
        [a, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, a],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, a],
    ]
    votes = Votes.of_matrix(np.array(observers).T, num_classes=6)
    assert krippendorff_alpha(votes) == pytest.approx(0.743, abs=5e-4)


def test_agreement_of_rows_with_one_vote_each_is_not_known() -> None:
    assert krippendorff_alpha(Votes.of_matrix(np.array([[0, ABSTAINED], [ABSTAINED, 1]]), num_classes=2)) is None
