from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcluster.data import ImageShape
from mlcluster.registry.onnx_export import to_onnx
from mlcluster.train.structure import BinaryTree, Structure, TreeEnsemble, apply_link
from tests.registry.structures import random_conv, random_ensemble, random_net, rows_around_thresholds

LINKS = st.sampled_from([("identity", 1), ("sigmoid", 1), ("softmax", 3), ("softmax", 5)])


def run_onnx(structure: Structure, features: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(to_onnx(structure), options, providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {"features": features})
    return np.asarray(scores)


def expected(structure: Structure, features: np.ndarray) -> np.ndarray:
    return apply_link(structure.raw_scores(features), structure.link)


@given(seed=st.integers(0, 2**32 - 1), link=LINKS, depth=st.integers(0, 7), num_trees=st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_trees_answer_as_in_training_on_thresholds_their_neighbours_and_nan(seed, link, depth, num_trees) -> None:
    rng = np.random.default_rng(seed)
    ensemble = random_ensemble(rng, num_inputs=4, num_outputs=link[1], num_trees=num_trees, link=link[0], depth=depth)
    features = rows_around_thresholds(rng, ensemble, 200)
    np.testing.assert_allclose(run_onnx(ensemble, features), expected(ensemble, features), rtol=1e-6, atol=1e-6)


@given(seed=st.integers(0, 2**32 - 1), link=LINKS, hidden=st.lists(st.integers(1, 64), max_size=3))
@settings(max_examples=30, deadline=None)
def test_nets_answer_as_in_training(seed, link, hidden) -> None:
    rng = np.random.default_rng(seed)
    net = random_net(rng, (7, *hidden, link[1]), link[0])
    features = rng.normal(size=(50, 7)).astype(np.float32)
    np.testing.assert_allclose(run_onnx(net, features), expected(net, features), rtol=1e-9, atol=1e-9)


@given(
    seed=st.integers(0, 2**32 - 1),
    link=LINKS,
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3])),
    widths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
)
@settings(max_examples=30, deadline=None)
def test_convolutions_answer_as_in_training(seed, link, sides, widths) -> None:
    rng = np.random.default_rng(seed)
    shape = ImageShape(height=sides[0], width=sides[1], channels=sides[2])
    net = random_conv(rng, shape, tuple(widths), link[1], link[0])
    features = rng.normal(size=(7, shape.num_values)).astype(np.float32)
    np.testing.assert_allclose(run_onnx(net, features), expected(net, features), rtol=1e-9, atol=1e-9)
    assert to_onnx(net) == to_onnx(net)


def test_a_forest_of_many_deep_trees_keeps_its_digits() -> None:
    rng = np.random.default_rng(0)
    ensemble = random_ensemble(rng, num_inputs=20, num_outputs=1, num_trees=200, link="sigmoid", depth=9)
    features = rows_around_thresholds(rng, ensemble, 2_000)
    np.testing.assert_allclose(run_onnx(ensemble, features), expected(ensemble, features), atol=1e-6)


def test_a_large_base_costs_no_digits() -> None:
    rng = np.random.default_rng(0)
    small = random_ensemble(rng, num_inputs=3, num_outputs=1, num_trees=5, link="identity")
    ensemble = TreeEnsemble(trees=small.trees, base=np.array([123_456_789.0]), num_inputs=3, link="identity")
    features = rows_around_thresholds(rng, ensemble, 100)
    np.testing.assert_allclose(run_onnx(ensemble, features), expected(ensemble, features), rtol=0, atol=1e-6)


def test_a_chain_of_a_thousand_nodes_is_answered() -> None:
    depth = 1_000
    num_nodes = 2 * depth + 1
    inner = np.arange(num_nodes) % 2 == 0
    inner[-1] = False
    nodes = np.arange(num_nodes)
    chain = BinaryTree(
        feature=np.where(inner, 0, -1).astype(np.int32),
        threshold=(depth - nodes / 2).astype(np.float32),
        left=np.where(inner, nodes + 2, -1).astype(np.int32),
        right=np.where(inner, nodes + 1, -1).astype(np.int32),
        missing_left=np.ones(num_nodes, dtype=bool),
        value=nodes.astype(np.float64)[:, None],
    )
    ensemble = TreeEnsemble(trees=(chain,), base=np.zeros(1), num_inputs=1, link="identity")
    features = np.array([[np.nan], [-1.0], [500.0], [1e9]], dtype=np.float32)
    np.testing.assert_allclose(run_onnx(ensemble, features), expected(ensemble, features))


def test_equal_structures_give_equal_bytes() -> None:
    first, second = (
        random_ensemble(np.random.default_rng(3), num_inputs=3, num_outputs=2, num_trees=4, link="softmax")
        for _ in range(2)
    )
    assert to_onnx(first) == to_onnx(second)


@pytest.mark.parametrize("link", ["identity", "sigmoid", "softmax"])
def test_the_model_declares_its_shapes_and_only_standard_operators(link) -> None:
    outputs = 3 if link == "softmax" else 1
    model = onnx.load_model_from_string(to_onnx(random_net(np.random.default_rng(0), (6, 4, outputs), link)))
    dims = [value.type.tensor_type.shape.dim for value in (model.graph.input[0], model.graph.output[0])]
    assert [dim[1].dim_value for dim in dims] == [6, {"identity": 1, "sigmoid": 2, "softmax": 3}[link]]
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx.ml"}
