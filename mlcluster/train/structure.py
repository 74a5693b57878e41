"""What a trained model is, as numbers: the neutral form that is exported, proved and served.

A learner hands out its structure, and nothing else of it leaves training: `registry/` turns a structure into ONNX,
`verify/` proves bounds on it. Shapes: d inputs, k outputs, h hidden units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Link = Literal["identity", "sigmoid", "softmax"]
"""From raw scores to answers: a value, P(class 1) of one raw score, or P(each class) of k raw scores."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DenseLayer:
    """x @ weight + bias; weight is (inputs, outputs) and bias (outputs,), float32."""

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class DenseNet:
    """Layers with ReLU between them; one layer is a linear model."""

    layers: tuple[DenseLayer, ...]
    link: Link

    def raw_scores(self, features: FloatArray) -> npt.NDArray[np.float64]:
        """Before the link, in float64. Shapes (n, d) -> (n, k)."""
        values = np.asarray(features, dtype=np.float64)
        for layer in self.layers[:-1]:
            values = np.maximum(values @ layer.weight.astype(np.float64) + layer.bias, 0.0)
        last = self.layers[-1]
        return values @ last.weight.astype(np.float64) + last.bias


@dataclass(frozen=True, kw_only=True, slots=True)
class BinaryTree:
    """One tree of m nodes; node 0 is the root.

    An inner node goes left when `x[feature] <= threshold`, or when x is NaN and `missing_left`. A leaf has
    feature -1. `value` is (m, k) and counts at leaves only. Thresholds are float32 rounded *down*, so that for
    float32 inputs the comparison equals the one in float64 that the learner made.
    """

    feature: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float32]
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    missing_left: npt.NDArray[np.bool_]
    value: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeEnsemble:
    """Raw scores are `base` (k,) plus the sum of one leaf value (k,) a tree, for d float32 inputs."""

    trees: tuple[BinaryTree, ...]
    base: npt.NDArray[np.float64]
    num_inputs: int
    link: Link

    def raw_scores(self, features: FloatArray) -> npt.NDArray[np.float64]:
        """Before the link, in float64. Shapes (n, d) -> (n, k)."""
        inputs = np.asarray(features, dtype=np.float32)
        total = np.tile(self.base, (len(inputs), 1))
        for tree in self.trees:
            total += tree.value[_leaves(tree, inputs)]
        return total


Structure = DenseNet | TreeEnsemble


def apply_link(raw: npt.NDArray[np.float64], link: Link) -> npt.NDArray[np.float64]:
    """Answers from raw scores: (n, k) -> (n, k); sigmoid takes (n, 1) to (n, 2), both classes' probabilities."""
    if link == "identity":
        return raw
    if link == "sigmoid":
        positive = 1.0 / (1.0 + np.exp(-np.clip(raw[:, :1], -700, 700)))
        return np.concatenate([1.0 - positive, positive], axis=1)
    shifted = np.exp(raw - raw.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def round_threshold_down(threshold: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The largest float32 at or below each float64: for float32 x, `x <= result` exactly when `x <= threshold`."""
    with np.errstate(over="ignore"):
        rounded = threshold.astype(np.float32)
    too_high = rounded.astype(np.float64) > threshold
    rounded[too_high] = np.nextafter(rounded[too_high], np.float32(-np.inf))
    return rounded


def _leaves(tree: BinaryTree, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    nodes = np.zeros(len(inputs), dtype=np.int32)
    rows = np.arange(len(inputs))
    while True:
        features = tree.feature[nodes]
        is_inner = features >= 0
        if not is_inner.any():
            return nodes
        values = inputs[rows, np.maximum(features, 0)]
        goes_left = np.where(np.isnan(values), tree.missing_left[nodes], values <= tree.threshold[nodes])
        children = np.where(goes_left, tree.left[nodes], tree.right[nodes])
        nodes = np.where(is_inner, children, nodes)
