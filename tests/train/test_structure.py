from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlcluster.train import BinaryTree, DenseLayer, DenseNet, TreeEnsemble, apply_link
from mlcluster.train.structure import round_threshold_down


@given(threshold=st.floats(allow_nan=False), value=st.floats(width=32, allow_nan=False))
def test_a_rounded_threshold_compares_with_float32_as_the_exact_one_does(threshold: float, value: float) -> None:
    rounded = round_threshold_down(np.array([threshold]))[0]
    assert rounded.dtype == np.float32
    assert (np.float32(value) <= rounded) == (float(value) <= threshold)


def test_a_net_by_hand() -> None:
    hidden = DenseLayer(weight=np.array([[1, -1]], dtype=np.float32), bias=np.array([0, 1], dtype=np.float32))
    last = DenseLayer(weight=np.array([[2], [3]], dtype=np.float32), bias=np.array([0.5], dtype=np.float32))
    net = DenseNet(layers=(hidden, last), link="identity")
    inputs = np.array([[2.0], [-1.0]], dtype=np.float32)
    np.testing.assert_array_equal(net.raw_scores(inputs), [[2 * 2 + 0.5], [3 * 2 + 0.5]])


def test_a_tree_by_hand_goes_left_at_its_threshold_and_sends_the_missing_where_it_learnt() -> None:
    stump = BinaryTree(
        feature=np.array([1, -1, -1], dtype=np.int32),
        threshold=np.array([0.5, 0, 0], dtype=np.float32),
        left=np.array([1, 0, 0], dtype=np.int32),
        right=np.array([2, 0, 0], dtype=np.int32),
        missing_left=np.array([False, False, False]),
        value=np.array([[0.0], [10.0], [20.0]]),
    )
    ensemble = TreeEnsemble(trees=(stump, stump), base=np.array([1.0]), num_inputs=2, link="identity")
    inputs = np.array([[0, 0.5], [0, 0.6], [0, np.nan]], dtype=np.float32)
    np.testing.assert_array_equal(ensemble.raw_scores(inputs), [[21.0], [41.0], [41.0]])


@given(raw=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=5))
def test_links_give_probabilities_however_extreme_the_scores(raw: list[float]) -> None:
    for link, scores in (("softmax", np.array([raw])), ("sigmoid", np.array([raw[:1]]))):
        answers = apply_link(scores, link)  # type: ignore[arg-type]
        assert np.isfinite(answers).all()
        assert ((answers >= 0) & (answers <= 1)).all()
        np.testing.assert_allclose(answers.sum(axis=1), 1.0)
    np.testing.assert_array_equal(apply_link(np.array([raw]), "identity"), [raw])


def test_the_sigmoid_of_a_score_is_the_softmax_against_zero() -> None:
    scores = np.linspace(-5, 5, 11)[:, None]
    both = np.concatenate([np.zeros_like(scores), scores], axis=1)
    np.testing.assert_allclose(apply_link(scores, "sigmoid"), apply_link(both, "softmax"))
