"""Random structures for the tests of the served artifact."""

from __future__ import annotations

import itertools

import numpy as np

from mlcluster.data import ImageShape
from mlcluster.train.structure import BinaryTree, ConvLayer, ConvNet, DenseLayer, DenseNet, Link, TreeEnsemble


def random_net(rng: np.random.Generator, widths: tuple[int, ...], link: Link) -> DenseNet:
    layers = tuple(
        DenseLayer(
            weight=rng.normal(size=(inputs, outputs)).astype(np.float32),
            bias=rng.normal(size=outputs).astype(np.float32),
        )
        for inputs, outputs in itertools.pairwise(widths)
    )
    return DenseNet(layers=layers, link=link)


def random_conv(
    rng: np.random.Generator, shape: ImageShape, widths: tuple[int, ...], outputs: int, link: Link
) -> ConvNet:
    """Convolutions of these widths, pooling while it can, and one dense layer."""
    layers, height, width = [], shape.height, shape.width
    for inputs, channels in itertools.pairwise((shape.channels, *widths)):
        pools = min(height, width) > 1
        weight = rng.normal(scale=(9 * inputs) ** -0.5, size=(9 * inputs, channels)).astype(np.float32)
        layers.append(ConvLayer(weight=weight, bias=rng.normal(size=channels).astype(np.float32), pools=pools))
        height, width = (height // 2, width // 2) if pools else (height, width)
    return ConvNet(
        shape=shape, layers=tuple(layers), head=random_net(rng, (height * width * widths[-1], outputs), link)
    )


def random_tree(rng: np.random.Generator, *, num_inputs: int, num_outputs: int, depth: int) -> BinaryTree:
    """A full binary tree in heap order, with some inner nodes turned into leaves."""
    num_nodes = 2 ** (depth + 1) - 1
    nodes = np.arange(num_nodes)
    inner = (2 * nodes + 2 < num_nodes) & ((rng.random(num_nodes) < 0.8) | (nodes == 0))
    value = rng.normal(size=(num_nodes, num_outputs))
    value[rng.random(num_nodes) < 0.2] = 0.0
    return BinaryTree(
        feature=np.where(inner, rng.integers(0, num_inputs, num_nodes), -1).astype(np.int32),
        threshold=rng.normal(size=num_nodes).astype(np.float32),
        left=np.where(inner, 2 * nodes + 1, -1).astype(np.int32),
        right=np.where(inner, 2 * nodes + 2, -1).astype(np.int32),
        missing_left=rng.random(num_nodes) < 0.5,
        value=value,
    )


def random_ensemble(
    rng: np.random.Generator, *, num_inputs: int, num_outputs: int, num_trees: int, link: Link, depth: int = 4
) -> TreeEnsemble:
    return TreeEnsemble(
        trees=tuple(
            random_tree(rng, num_inputs=num_inputs, num_outputs=num_outputs, depth=depth) for _ in range(num_trees)
        ),
        base=rng.normal(size=num_outputs),
        num_inputs=num_inputs,
        link=link,
    )


def rows_around_thresholds(rng: np.random.Generator, ensemble: TreeEnsemble, num_rows: int) -> np.ndarray:
    """Rows whose every value is a threshold, its neighbours one ulp away, NaN, an infinity or a draw."""
    thresholds = np.concatenate([tree.threshold[tree.feature >= 0] for tree in ensemble.trees] or [np.zeros(1)])
    pool = np.concatenate(
        [
            thresholds,
            np.nextafter(thresholds, np.float32(np.inf)),
            np.nextafter(thresholds, np.float32(-np.inf)),
            rng.normal(size=len(thresholds)).astype(np.float32),
            np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], dtype=np.float32),
            np.full(len(thresholds), np.nan, dtype=np.float32),
        ]
    ).astype(np.float32)
    return rng.choice(pool, size=(num_rows, ensemble.num_inputs)).astype(np.float32)
