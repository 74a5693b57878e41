"""What a trained model is, as numbers: the neutral form that is exported, proved and served.

A learner hands out its structure, and nothing else of it leaves training: `registry/` turns a structure into ONNX,
`verify/` proves bounds on it. Shapes: d inputs, k outputs, h hidden units.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt

from mlcluster.data.schema import ImageShape

FloatArray = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Link = Literal["identity", "sigmoid", "softmax"]
"""From raw scores to answers: a value, P(class 1) of one raw score, or P(each class) of k raw scores."""
KERNEL = 3
"""Pixels on a side that a convolution looks at."""
_VALUES_AT_ONCE = 1 << 23


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
class ConvLayer:
    """ReLU of a 3 x 3 convolution with a border of zeros, then, if `pools`, the maximum of each 2 x 2 pixels.

    `weight` is (9 * inputs, outputs), the inputs of one place of the kernel side by side, its places row by row; `bias`
    is (outputs,). An odd last row or column of pixels is left out by pooling.
    """

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    pools: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvNet:
    """Convolutions over images of `shape`, and the dense net over what they give, flat.

    Rows are images as the transform writes them: row by row, the channels of a pixel side by side. So are the values
    between layers, and a convolution is one product of patches (9 pixels side by side) and weights.
    """

    shape: ImageShape
    layers: tuple[ConvLayer, ...]
    head: DenseNet

    @property
    def link(self) -> Link:
        return self.head.link

    def raw_scores(self, features: FloatArray) -> npt.NDArray[np.float64]:
        """Before the link, in float64. Shapes (n, h * w * channels) -> (n, k)."""
        widest = max(len(layer.weight) for layer in self.layers) * self.shape.height * self.shape.width
        step = max(1, _VALUES_AT_ONCE // widest)
        parts = [self._scores_of(features[start : start + step]) for start in range(0, len(features), step)]
        return np.concatenate(parts) if parts else self.head.raw_scores(np.zeros((0, len(self.head.layers[0].weight))))

    def _scores_of(self, features: FloatArray) -> npt.NDArray[np.float64]:
        values = np.asarray(features, dtype=np.float64).reshape(
            len(features), self.shape.height, self.shape.width, self.shape.channels
        )
        for layer in self.layers:
            values = np.maximum(_patches(values) @ layer.weight.astype(np.float64) + layer.bias, 0.0)
            if layer.pools:
                values = _pooled(values)
        return self.head.raw_scores(values.reshape(len(values), -1))


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


Structure = DenseNet | ConvNet | TreeEnsemble


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


def kernel_places(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Where in the padded image (h + 2, w + 2) the pixels under each place of the kernel lie, row by row."""
    for row, column in product(range(KERNEL), range(KERNEL)):
        yield slice(row, row + height), slice(column, column + width)


def _patches(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(n, h, w, c) -> (n, h, w, 9 c)."""
    height, width = values.shape[1:3]
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return np.concatenate([padded[:, rows, columns] for rows, columns in kernel_places(height, width)], axis=3)


def _pooled(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(n, h, w, c) -> (n, h // 2, w // 2, c)."""
    num, height, width, channels = values.shape
    whole = values[:, : height // 2 * 2, : width // 2 * 2]
    found: npt.NDArray[np.float64] = whole.reshape(num, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
    return found


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
