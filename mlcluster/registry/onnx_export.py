"""From a structure to ONNX, node by node, without a converter between the two.

The graph takes float32, as the transform gives it, and computes in double: a float32 product of a wide layer is off by
1e-6, as much as the proofs of `verify/` leave as margin, and the double one costs a microsecond. Weights are stored as
float32 and widened by the runtime when it loads them, so the file is no larger. Thresholds of trees are float32
rounded down, which makes the comparison in double the one that training made, NaN included.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from mlcluster.train.structure import (
    BinaryTree,
    ConvLayer,
    ConvNet,
    DenseNet,
    Link,
    Structure,
    TreeEnsemble,
    kernel_places,
)

INPUT_NAME = "features"
OUTPUT_NAME = "scores"
OPSET = 17
TREE_OPSET = 3
IR_VERSION = 8
"""The format of opset 17: read by every onnxruntime since 1.12."""
ALLOWED_DOMAINS = frozenset({"", "ai.onnx.ml"})
"""What this module writes, and all that a bundle may hold: neither names code of anyone's own."""


@dataclass
class _Graph:
    """Nodes and constants as they are added; `add` gives the name of the node's output."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, operator: str, *inputs: str, output: str | None = None, domain: str = "", **attributes: Any) -> str:
        name = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], domain=domain, **attributes))
        return name

    def constant(self, name: str, values: npt.NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def numbers(self, values: tuple[int, ...]) -> str:
        """A constant of whole numbers, once for equal ones."""
        name = "numbers_" + "_".join(map(str, values))
        known = any(tensor.name == name for tensor in self.constants)
        return name if known else self.constant(name, np.array(values, dtype=np.int64))

    def widened(self, name: str, values: npt.NDArray[np.float32]) -> str:
        return self.add("Cast", self.constant(name, values), output=f"{name}_double", to=TensorProto.DOUBLE)


def to_onnx(structure: Structure) -> bytes:
    """The structure and its link as a serialized ONNX model.

    Input `features`: float32 (N, d). Output `scores`: double (N, 2) for a sigmoid (both classes' probabilities),
    (N, k) for a softmax, (N, k) raw values for the identity. Equal structures give equal bytes.
    """
    graph = _Graph()
    if isinstance(structure, DenseNet):
        num_inputs, num_raw = structure.layers[0].weight.shape[0], structure.layers[-1].weight.shape[1]
        raw = _add_dense_net(graph, structure, graph.add("Cast", INPUT_NAME, to=TensorProto.DOUBLE))
    elif isinstance(structure, ConvNet):
        num_inputs, num_raw = structure.shape.num_values, structure.head.layers[-1].weight.shape[1]
        raw = _add_conv_net(graph, structure)
    else:
        num_inputs, num_raw = structure.num_inputs, len(structure.base)
        raw = _add_tree_ensemble(graph, structure)
    _add_link(graph, raw, structure.link)
    num_outputs = 2 if structure.link == "sigmoid" else num_raw
    return _serialize(graph, num_inputs, num_outputs)


def _serialize(graph: _Graph, num_inputs: int, num_outputs: int) -> bytes:
    proto = helper.make_graph(
        graph.nodes,
        "mlcluster",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["N", int(num_inputs)])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.DOUBLE, ["N", int(num_outputs)])],
        graph.constants,
    )
    model = helper.make_model(
        proto,
        producer_name="mlcluster",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", TREE_OPSET)],
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _add_dense_net(graph: _Graph, net: DenseNet, values: str) -> str:
    for index, layer in enumerate(net.layers):
        if index > 0:
            values = graph.add("Relu", values)
        weight = graph.widened(f"weight_{index}", layer.weight.astype(np.float32))
        bias = graph.widened(f"bias_{index}", layer.bias.astype(np.float32))
        values = graph.add("Gemm", values, weight, bias)
    return values


def _add_conv_net(graph: _Graph, net: ConvNet) -> str:
    """Convolutions as products of patches and weights: the runtime's own are of float32 only."""
    height, width, channels = net.shape.height, net.shape.width, net.shape.channels
    values = graph.add("Cast", INPUT_NAME, to=TensorProto.DOUBLE)
    values = _add_reshape(graph, values, (-1, height, width, channels))
    borders = graph.constant("borders", np.array([0, 1, 1, 0, 0, 1, 1, 0]))
    for index, layer in enumerate(net.layers):
        padded = graph.add("Pad", values, borders)
        places = kernel_places(height, width)
        patches = graph.add("Concat", *(_add_slice(graph, padded, rows, columns) for rows, columns in places), axis=3)
        product = graph.add("MatMul", patches, graph.widened(f"convolution_{index}", layer.weight))
        values = graph.add("Relu", graph.add("Add", product, graph.widened(f"convolution_bias_{index}", layer.bias)))
        if layer.pools:
            values = _add_pooling(graph, values, layer, height // 2, width // 2)
            height, width = height // 2, width // 2
    flat = _add_reshape(graph, values, (-1, len(net.head.layers[0].weight)))
    return _add_dense_net(graph, net.head, flat)


def _add_pooling(graph: _Graph, values: str, layer: ConvLayer, height: int, width: int) -> str:
    """The maximum of each 2 x 2 pixels, to (N, height, width, c)."""
    whole = _add_slice(graph, values, slice(0, 2 * height), slice(0, 2 * width))
    paired = _add_reshape(graph, whole, (-1, height, 2, width, 2, len(layer.bias)))
    return graph.add("ReduceMax", paired, axes=[2, 4], keepdims=0)


def _add_slice(graph: _Graph, values: str, rows: slice, columns: slice) -> str:
    ends = [graph.numbers((rows.start, columns.start)), graph.numbers((rows.stop, columns.stop))]
    return graph.add("Slice", values, *ends, graph.numbers((1, 2)))


def _add_reshape(graph: _Graph, values: str, sides: tuple[int, ...]) -> str:
    return graph.add("Reshape", values, graph.numbers(sides))


def _add_link(graph: _Graph, raw: str, link: Link) -> None:
    if link == "identity":
        graph.add("Identity", raw, output=OUTPUT_NAME)
    elif link == "softmax":
        graph.add("Softmax", raw, output=OUTPUT_NAME, axis=1)
    else:
        positive = graph.add("Sigmoid", raw)
        negative = graph.add("Sub", graph.constant("one", np.ones(1, dtype=np.float64)), positive)
        graph.add("Concat", negative, positive, output=OUTPUT_NAME, axis=1)


def _add_tree_ensemble(graph: _Graph, ensemble: TreeEnsemble) -> str:
    """Double inputs make the runtime compare and sum in double; only the sum is handed out as float32.

    The base is added afterwards, in double: a regression around 1e6 would lose its digits in that float32.
    """
    values = graph.add("Cast", INPUT_NAME, to=TensorProto.DOUBLE)
    base = graph.constant("base", ensemble.base.astype(np.float64).reshape(1, -1))
    # The operator refuses an ensemble without trees: one leaf of zeros stands in.
    attributes = _tree_attributes(ensemble.trees or (_zero_leaf(len(ensemble.base)),), len(ensemble.base))
    total = graph.add("TreeEnsembleRegressor", values, domain="ai.onnx.ml", **attributes)
    return graph.add("Add", graph.add("Cast", total, to=TensorProto.DOUBLE), base)


def _zero_leaf(num_outputs: int) -> BinaryTree:
    none = np.full(1, -1, dtype=np.int32)
    return BinaryTree(
        feature=none,
        threshold=np.zeros(1, dtype=np.float32),
        left=none,
        right=none,
        missing_left=np.zeros(1, dtype=np.bool_),
        value=np.zeros((1, num_outputs)),
    )


def _tree_attributes(trees: tuple[BinaryTree, ...], num_outputs: int) -> dict[str, Any]:
    parts = [_node_arrays(index, tree) for index, tree in enumerate(trees)]
    merged = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    attributes: dict[str, Any] = {
        name: values.tolist() for name, values in merged.items() if name not in ("nodes_values", "target_weights")
    }
    attributes["nodes_modes"] = ["BRANCH_LEQ" if inner else "LEAF" for inner in attributes.pop("is_inner")]
    for name in ("nodes_values", "target_weights"):
        attributes[f"{name}_as_tensor"] = numpy_helper.from_array(merged[name].astype(np.float64), name)
    return attributes | {"n_targets": num_outputs, "aggregate_function": "SUM", "post_transform": "NONE"}


def _node_arrays(index: int, tree: BinaryTree) -> dict[str, npt.NDArray[Any]]:
    """Flat attributes of one tree: one entry a node, and one a (leaf, output) whose weight counts."""
    num_nodes = len(tree.feature)
    inner = tree.feature >= 0
    leaves = np.flatnonzero(~inner)
    counts = tree.value[leaves] != 0.0
    # A leaf of zeros keeps one weight: the runtime reads the first weight of every leaf.
    counts[~counts.any(axis=1), 0] = True
    rows, targets = np.nonzero(counts)
    return {
        "nodes_treeids": np.full(num_nodes, index),
        "nodes_nodeids": np.arange(num_nodes),
        "nodes_featureids": np.where(inner, tree.feature, 0),
        "is_inner": inner,
        "nodes_values": np.where(inner, tree.threshold, 0.0),
        "nodes_truenodeids": np.where(inner, tree.left, 0),
        "nodes_falsenodeids": np.where(inner, tree.right, 0),
        "nodes_missing_value_tracks_true": np.where(inner, tree.missing_left, False).astype(np.int64),
        "target_treeids": np.full(len(rows), index),
        "target_nodeids": leaves[rows],
        "target_ids": targets,
        "target_weights": tree.value[leaves[rows], targets],
    }
