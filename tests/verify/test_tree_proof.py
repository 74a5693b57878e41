"""Brute force over the cells between thresholds is the oracle: in each cell a tree ensemble is constant."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verify_models import classes_of, points_inside, random_boxes, random_ensemble

from mlcluster.train import BinaryTree, TreeEnsemble
from mlcluster.verify import Boxes, tree_proof
from mlcluster.verify.tree_proof import prove_trees


def every_cell(ensemble: TreeEnsemble, boxes: Boxes, row: int) -> np.ndarray:
    """One point of each cell of the box, and all its corners."""
    axes = []
    for one in range(ensemble.num_inputs):
        low, high = boxes.lower[row, one], boxes.upper[row, one]
        if np.isnan(low):
            axes.append([np.nan])
            continue
        cuts = {low, high}
        for tree in ensemble.trees:
            for threshold in tree.threshold[tree.feature == one]:
                cuts |= {cut for cut in (threshold, np.nextafter(threshold, np.float32(9))) if low <= cut <= high}
        axes.append(sorted(cuts))
    return np.array(list(product(*axes)), dtype=np.float32)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    trees=st.integers(1, 6),
    outputs=st.sampled_from([1, 2, 3]),
    eps=st.sampled_from([0.0, 0.2, 0.8, 2.0]),
    num_missing=st.integers(0, 1),
)
def test_proofs_equal_brute_force(seed: int, trees: int, outputs: int, eps: float, num_missing: int) -> None:
    rng = np.random.default_rng(seed)
    ensemble = random_ensemble(rng, trees=trees, inputs=3, outputs=outputs)
    boxes = random_boxes(rng, 3, 3, eps)
    for part in (boxes.center, boxes.lower, boxes.upper):
        part[:, :num_missing] = np.nan
    classes = classes_of(ensemble.raw_scores(boxes.center))
    for row, proof in enumerate(prove_trees(ensemble, boxes)):
        found = classes_of(ensemble.raw_scores(every_cell(ensemble, boxes, row)))
        assert proof.status == ("proved" if (found == classes[row]).all() else "refuted")


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), outputs=st.sampled_from([1, 3]), eps=st.sampled_from([0.1, 0.5, 2.0]))
def test_nothing_breaks_a_proved_row_of_a_larger_ensemble(seed: int, outputs: int, eps: float) -> None:
    rng = np.random.default_rng(seed)
    ensemble = random_ensemble(rng, trees=30, inputs=6, outputs=outputs, depth=5)
    boxes = random_boxes(rng, 4, 6, eps, num_fixed=2)
    classes = classes_of(ensemble.raw_scores(boxes.center))
    for row, proof in enumerate(prove_trees(ensemble, boxes)):
        if proof.status == "proved":
            found = classes_of(ensemble.raw_scores(points_inside(rng, boxes, row, 2_000)))
            assert (found == classes[row]).all()
        elif proof.status == "refuted":
            assert ((boxes.lower[row] <= proof.example) & (proof.example <= boxes.upper[row])).all()
            assert classes_of(ensemble.raw_scores(proof.example[None]))[0] != classes[row]


def stump(threshold: float) -> TreeEnsemble:
    """Class 1 where x > threshold."""
    tree = BinaryTree(
        feature=np.array([0, -1, -1], dtype=np.int32),
        threshold=np.array([threshold, 0, 0], dtype=np.float32),
        left=np.array([1, 0, 0], dtype=np.int32),
        right=np.array([2, 0, 0], dtype=np.int32),
        missing_left=np.array([True, False, False]),
        value=np.array([[0.0], [-1.0], [1.0]]),
    )
    return TreeEnsemble(trees=(tree,), base=np.zeros(1), num_inputs=1, link="sigmoid")


@pytest.mark.parametrize(
    ("upper", "status"), [(0.5, "proved"), (np.nextafter(np.float32(0.5), np.float32(1)), "refuted")]
)
def test_a_threshold_is_met_to_the_last_bit(upper: float, status: str) -> None:
    center, high = np.zeros((1, 1), dtype=np.float32), np.full((1, 1), upper, dtype=np.float32)
    assert prove_trees(stump(0.5), Boxes(center=center, lower=center, upper=high))[0].status == status


def test_a_missing_value_does_not_move() -> None:
    missing = np.full((1, 1), np.nan, dtype=np.float32)
    assert prove_trees(stump(0.5), Boxes(center=missing, lower=missing, upper=missing))[0].status == "proved"


def test_a_row_that_takes_too_many_parts_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_proof, "_MAX_PARTS", 1)
    rng = np.random.default_rng(0)
    ensemble = random_ensemble(rng, trees=30, inputs=6, outputs=1, depth=5)
    statuses = {proof.status for proof in prove_trees(ensemble, random_boxes(rng, 40, 6, 0.5))}
    assert "unknown" in statuses


def test_trees_without_a_split_are_proved() -> None:
    leaf = BinaryTree(
        feature=np.array([-1], dtype=np.int32),
        threshold=np.zeros(1, dtype=np.float32),
        left=np.zeros(1, dtype=np.int32),
        right=np.zeros(1, dtype=np.int32),
        missing_left=np.zeros(1, dtype=bool),
        value=np.zeros((1, 1)),
    )
    ensemble = TreeEnsemble(trees=(leaf,), base=np.zeros(1), num_inputs=2, link="sigmoid")
    boxes = random_boxes(np.random.default_rng(0), 3, 2, 1.0)
    assert [proof.status for proof in prove_trees(ensemble, boxes)] == ["proved"] * 3
