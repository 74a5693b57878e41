"""Which rows are asked about, and which labels are doubted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcluster.data.labels import audit_labels, choose_rows, describe_suspects


def cloud(num_rows: int, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    share = rng.random(num_rows)
    return rng.normal(size=(num_rows, 3)).astype(np.float32), np.column_stack([share, 1 - share])


@given(num_rows=st.integers(1, 60), count=st.integers(1, 80), has_model=st.booleans())
def test_as_many_rows_as_asked_each_once(num_rows: int, count: int, has_model: bool) -> None:
    features, probabilities = cloud(num_rows)
    rng = np.random.default_rng(0)
    choices = choose_rows(features, probabilities if has_model else None, count, rng=rng)
    places = [choice.place for choice in choices]
    assert len(places) == len(set(places)) == min(count, num_rows)


def test_the_least_certain_row_is_asked_first_and_certain_ones_not_at_all() -> None:
    features, probabilities = cloud(500)
    choices = choose_rows(features, probabilities, 20, rng=np.random.default_rng(0))
    margins = np.abs(probabilities[:, 0] - probabilities[:, 1])
    assert choices[0].place == int(margins.argmin())
    assert max(choice.margin or 0 for choice in choices) <= np.sort(margins)[59]
    assert choices[0].reason.startswith(f"margin {margins.min():.3f}")


def test_rows_that_are_all_alike_are_not_all_asked_about() -> None:
    """Thirty copies of the least certain row, and two others that are nearly as uncertain."""
    features = np.zeros((32, 2), dtype=np.float32)
    features[30], features[31] = (5, 0), (0, 5)
    share = np.full(32, 0.5)
    share[30:] = 0.52
    choices = choose_rows(features, np.column_stack([share, 1 - share]), 11, rng=np.random.default_rng(0))
    assert {30, 31} <= {choice.place for choice in choices}


@pytest.mark.parametrize("has_model", [True, False])
def test_the_same_seed_asks_the_same_and_another_seed_other_rows(has_model: bool) -> None:
    features, _ = cloud(300)
    even = np.full((300, 2), 0.5) if has_model else None  # all ties

    def places(seed: int) -> list[int]:
        return [choice.place for choice in choose_rows(features, even, 10, rng=np.random.default_rng(seed))]

    assert places(1) == places(1) != places(2)


def noisy(seed: int) -> tuple[Any, Any, Any]:
    """Labels of which one in ten is turned, and honest probabilities of three classes."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, 3000)
    scores = rng.normal(size=(3000, 3)) + 2.5 * np.eye(3)[truth]
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    is_turned = rng.random(3000) < 0.1
    return np.where(is_turned, (truth + 1) % 3, truth), probabilities, is_turned


def test_turned_labels_are_ranked_first_and_named() -> None:
    given_labels, probabilities, is_turned = noisy(0)
    audit = audit_labels(given_labels, probabilities)
    assert is_turned[audit.is_suspect].mean() > 0.6
    assert audit.is_suspect[is_turned].mean() > 0.6
    assert is_turned[audit.suspects()[:100]].mean() > 0.9
    assert audit.joint.sum() == pytest.approx(1.0)


def test_suspects_are_told_by_the_rows_that_a_person_knows() -> None:
    given_labels, probabilities, _ = noisy(1)
    audit = audit_labels(given_labels, probabilities)
    rows = np.arange(3000) * 7
    told = describe_suspects(audit, given_labels, ("a", "b", "c"), rows=rows, limit=5)
    first = audit.suspects()[0]
    assert len(told) == 5
    assert (told[0]["row"], told[0]["given"]) == (7 * first, "abc"[given_labels[first]])
    assert told[0]["suggested"] != told[0]["given"]


def test_labels_that_the_probabilities_agree_with_are_not_doubted() -> None:
    truth = np.arange(300) % 3
    assert audit_labels(truth, np.eye(3)[truth] * 0.94 + 0.02).num_suspects == 0


def test_a_class_that_bears_no_label_is_no_trouble() -> None:
    given_labels, probabilities, _ = noisy(2)
    audit = audit_labels(np.minimum(given_labels, 1), probabilities)
    assert np.isfinite(audit.joint).all()
