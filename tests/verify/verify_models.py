"""Small models and boxes for the tests of verify/: random ones, and some whose answers are known by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from mlcluster.train import BinaryTree, DenseLayer, DenseNet, TreeEnsemble
from mlcluster.verify import Boxes


def random_net(rng: np.random.Generator, widths: list[int]) -> DenseNet:
    """He-initialised layers from `widths[0]` inputs to `widths[-1]` scores, with random biases."""
    layers = tuple(
        DenseLayer(
            weight=rng.normal(0, (2 / inputs) ** 0.5, (inputs, outputs)).astype(np.float32),
            bias=rng.normal(0, 0.3, outputs).astype(np.float32),
        )
        for inputs, outputs in pairwise(widths)
    )
    return DenseNet(layers=layers, link="sigmoid" if widths[-1] == 1 else "softmax")


def random_boxes(rng: np.random.Generator, rows: int, inputs: int, eps: float, *, num_fixed: int = 0) -> Boxes:
    """Boxes of up to +-eps around normal points; the last `num_fixed` inputs do not move."""
    center = rng.normal(size=(rows, inputs)).astype(np.float32)
    below, above = eps * rng.random((2, rows, inputs)).astype(np.float32)
    below[:, inputs - num_fixed :] = above[:, inputs - num_fixed :] = 0
    return Boxes(center=center, lower=center - below, upper=center + above)


def points_inside(rng: np.random.Generator, boxes: Boxes, row: int, count: int) -> np.ndarray:
    """Random points of one row's box, half of them corners, float32 (count, d)."""
    lower, upper = boxes.lower[row], boxes.upper[row]
    share = rng.random((count, len(lower)))
    share[: count // 2] = share[: count // 2].round()
    points = (lower.astype(np.float64) + share * (upper.astype(np.float64) - lower)).astype(np.float32)
    return np.clip(points, lower, upper)


def distance_net() -> DenseNet:
    """Class 1 where |x| + |y| > 1: scores (0, relu(x) + relu(-x) + relu(y) + relu(-y) - 1)."""
    weight = np.array([[1, -1, 0, 0], [0, 0, 1, -1]], dtype=np.float32)
    return DenseNet(
        layers=(
            DenseLayer(weight=weight, bias=np.zeros(4, dtype=np.float32)),
            DenseLayer(weight=np.ones((4, 1), dtype=np.float32), bias=np.full(1, -1, dtype=np.float32)),
        ),
        link="sigmoid",
    )


def random_tree(rng: np.random.Generator, depth: int, inputs: int, outputs: int) -> BinaryTree:
    """A tree of up to `depth` tests at thresholds -1, -0.5, ... 1, so that several trees share some."""
    feature, threshold, left, right = [], [], [], []

    def grow(level: int) -> int:
        node = len(feature)
        feature.append(-1)
        threshold.append(0.0)
        left.append(0)
        right.append(0)
        if level < depth and rng.random() < 0.85:
            feature[node] = int(rng.integers(inputs))
            threshold[node] = float(rng.integers(-2, 3)) / 2
            left[node], right[node] = grow(level + 1), grow(level + 1)
        return node

    grow(0)
    return BinaryTree(
        feature=np.array(feature, dtype=np.int32),
        threshold=np.array(threshold, dtype=np.float32),
        left=np.array(left, dtype=np.int32),
        right=np.array(right, dtype=np.int32),
        missing_left=rng.random(len(feature)) < 0.5,
        value=rng.normal(size=(len(feature), outputs)),
    )


def random_ensemble(rng: np.random.Generator, *, trees: int, inputs: int, outputs: int, depth: int = 4) -> TreeEnsemble:
    """Several random trees with a random base score."""
    return TreeEnsemble(
        trees=tuple(random_tree(rng, depth, inputs, outputs) for _ in range(trees)),
        base=rng.normal(0, 0.2, outputs),
        num_inputs=inputs,
        link="sigmoid" if outputs == 1 else "identity",
    )


def classes_of(raw: np.ndarray) -> np.ndarray:
    """The class of each row of raw scores."""
    return raw.argmax(axis=1) if raw.shape[1] > 1 else (raw[:, 0] > 0).astype(int)
