"""Is this ONNX model only arithmetic? Asked of every model before a runtime sees it."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from mlcluster.errors import BundleError
from mlcluster.registry.onnx_export import ALLOWED_DOMAINS, INPUT_NAME, OUTPUT_NAME


def check_onnx(data: bytes, *, name: str, num_inputs: int, num_outputs: int) -> None:
    """Passes when `data` is ONNX from `features` (N, num_inputs) to `scores` (N, num_outputs), with standard operators.

    Raises:
        BundleError: it cannot be parsed, uses operators, functions or files from elsewhere, or has other shapes.
    """
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError) as error:
        raise BundleError(f"{name} is not ONNX; fetch the bundle again.") from error
    _check_origin(model, name)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        reason = str(error).splitlines()[0]
        raise BundleError(f"{name} is no valid ONNX model ({reason}); build the bundle again.") from error
    _check_width(model.graph.input, INPUT_NAME, TensorProto.FLOAT, num_inputs, name)
    _check_width(model.graph.output, OUTPUT_NAME, TensorProto.DOUBLE, num_outputs, name)


def _check_origin(model: onnx.ModelProto, name: str) -> None:
    domains = {opset.domain for opset in model.opset_import}
    graphs = list(_graphs(model.graph))
    domains |= {node.domain for graph in graphs for node in graph.node}
    foreign = sorted(domains - ALLOWED_DOMAINS)
    if foreign or model.functions or model.training_info:
        what = f"operators of {foreign[0]!r}" if foreign else "functions of its own"
        raise BundleError(f"{name} uses {what}; only standard ONNX operators are served.")
    for graph in graphs:
        if any(tensor.data_location == TensorProto.EXTERNAL or tensor.external_data for tensor in _tensors(graph)):
            raise BundleError(f"{name} keeps data in another file; a bundle's model is one file.")


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _graphs(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def _check_width(values: list[onnx.ValueInfoProto], wanted: str, element: int, width: int, name: str) -> None:
    found = [(value.name, value.type.tensor_type) for value in values]
    dims = [dim.dim_value for dim in found[0][1].shape.dim] if found else []
    if (
        len(found) != 1
        or found[0][0] != wanted
        or found[0][1].elem_type != element
        or len(dims) != 2
        or dims[1] != width
    ):
        raise BundleError(f"{name} does not have the one tensor {wanted!r} of width {width}; build the bundle again.")
