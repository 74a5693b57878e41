"""The Open Inference Protocol, version 2: from a request's bytes to columns, and from answers to a response's bytes.

https://github.com/kserve/open-inference-protocol, with the binary tensor extension of Triton. Nothing here knows HTTP
beyond two headers, so every rule is tested on bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from mlcluster.data import TableSchema
from mlcluster.serve.json_body import json_type, parse_object, refuse_unknown
from mlcluster.serve.matrix_input import columns_of_matrix, matrix_spec
from mlcluster.serve.problem import invalid, malformed
from mlcluster.serve.tensors import (
    BINARY_TYPES,
    TensorSpec,
    accepts,
    check_shape,
    decode_binary,
    encode_binary,
    flatten,
    input_specs,
    output_specs,
)

HEADER_LENGTH = "inference-header-content-length"
_MAX_ID_LENGTH = 256
_UNSUPPORTED = ("shared_memory_region", "classification")


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputRequest:
    """One output that the client wants, as JSON or as bytes."""

    spec: TensorSpec
    binary: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class InferRequest:
    """A request that holds to the protocol; its values are not yet held to the schema."""

    id: str | None
    columns: dict[str, list[Any]]
    """Values by column, of one length; None is missing."""
    outputs: tuple[OutputRequest, ...]
    timeout_seconds: float | None
    """How long the request is willing to wait, if it says so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelTensors:
    """What a model takes and gives."""

    inputs: tuple[TensorSpec, ...]
    """One a column, in the schema's order."""
    outputs: tuple[TensorSpec, ...]
    matrix: TensorSpec | None
    """All columns as one tensor, instead of `inputs`, where the model takes one."""

    @classmethod
    def of(cls, schema: TableSchema) -> ModelTensors:
        return cls(inputs=input_specs(schema), outputs=output_specs(schema), matrix=matrix_spec(schema))


def parse_infer_request(body: bytes, header_length: str | None, tensors: ModelTensors) -> InferRequest:
    """The request in `body`, whose JSON part has `header_length` bytes when tensors follow it.

    Raises:
        RequestError: 400 for what cannot be read, 422 naming the member that is wrong.
    """
    document, binary = _split(body, header_length)
    return read_infer_request(parse_object(document), binary, tensors)


def read_infer_request(request: Mapping[str, Any], binary: bytes, tensors: ModelTensors) -> InferRequest:
    """The same of an object that has been read, and the bytes of its tensors, one after another.

    Raises:
        RequestError: 400 or 422, as above.
    """
    refuse_unknown(request, ("id", "parameters", "inputs", "outputs"), where="an inference request")
    parameters = checked_parameters(request, "request")
    return InferRequest(
        id=_request_id(request.get("id")),
        columns=_columns(request.get("inputs"), memoryview(binary), tensors),
        outputs=requested_outputs(
            request.get("outputs"), tensors.outputs, binary=parameters.get("binary_data_output") is True
        ),
        timeout_seconds=_timeout_seconds(parameters),
    )


def infer_response(
    members: Mapping[str, Any], outputs: Sequence[OutputRequest], values: Mapping[str, Sequence[Any]], num_rows: int
) -> tuple[bytes, int | None]:
    """The body, and the length of its JSON part when tensors follow it.

    `values` are flat and row-major; `members` are those of the response beside `outputs`.
    """
    tensors: list[dict[str, Any]] = []
    blocks: list[bytes] = []
    for output in outputs:
        shape = [num_rows if size < 0 else size for size in output.spec.shape]
        tensor: dict[str, Any] = {"name": output.spec.name, "datatype": output.spec.datatype, "shape": shape}
        if output.binary:
            block = encode_binary(output.spec.datatype, values[output.spec.name])
            blocks.append(block)
            tensor["parameters"] = {"binary_data_size": len(block)}
        else:
            tensor["data"] = list(values[output.spec.name])
        tensors.append(tensor)
    document = _encoded({**members, "outputs": tensors})
    return document + b"".join(blocks), (len(document) if blocks else None)


def _encoded(document: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(document)
    except orjson.JSONEncodeError:  # a lone surrogate in the client's id
        return json.dumps(document, allow_nan=False).encode("ascii")


def _split(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    if header_length is None:
        return body, b""
    if not (header_length.isascii() and header_length.isdigit()) or len(header_length) > 12:
        raise malformed(
            f"{HEADER_LENGTH} = {header_length[:40]!r} is no length; send the size of the JSON part in bytes."
        )
    length = int(header_length)
    if length > len(body):
        raise malformed(
            f"{HEADER_LENGTH} = {length} is above the body's {len(body)} bytes; send the size of its JSON part."
        )
    return body[:length], body[length:]


def _request_id(value: object) -> str | None:
    if value is not None and (not isinstance(value, str) or len(value) > _MAX_ID_LENGTH):
        raise invalid("id", f"is no string of at most {_MAX_ID_LENGTH} characters; send one, or leave it out.")
    return value


def checked_parameters(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The parameters of a request or a tensor; `name` is what it is called.

    Raises:
        RequestError: 422, they are no object, or ask for what is not served here.
    """
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise invalid(name, f"has parameters that are {json_type(parameters)}; send an object.")
    for unsupported in _UNSUPPORTED:
        if unsupported in parameters:
            raise invalid(name, f"asks for {unsupported}, which is not served here; leave it out.")
    return parameters


def _timeout_seconds(parameters: Mapping[str, Any]) -> float | None:
    """Triton's parameter, in microseconds; 0 is none."""
    timeout = parameters.get("timeout", 0)
    if type(timeout) is not int or not 0 <= timeout < 2**63:
        raise invalid("timeout", "is no whole number of microseconds; send one from 0 on, or leave it out.")
    return timeout / 1e6 if timeout else None


def _columns(tensors: object, binary: memoryview, model: ModelTensors) -> dict[str, list[Any]]:
    specs = {spec.name: spec for spec in (*model.inputs, *([] if model.matrix is None else [model.matrix]))}
    if not isinstance(tensors, list):
        raise invalid("inputs", f"is {json_type(tensors)}; send a list with one tensor a column.")
    columns: dict[str, list[Any]] = {}
    at = 0
    for tensor in tensors:
        spec = _input_spec(tensor, specs)
        if spec.name in columns:
            raise invalid(spec.name, "stands twice in inputs; send it once.")
        num_bytes = checked_parameters(tensor, spec.name).get("binary_data_size")
        if num_bytes is None:
            columns[spec.name] = _json_values(spec, tensor)
            continue
        if type(num_bytes) is not int or not 0 <= num_bytes <= len(binary) - at:
            raise invalid(spec.name, "has a binary_data_size that the body does not hold; send its size in bytes.")
        columns[spec.name] = _binary_values(spec, tensor, binary[at : at + num_bytes])
        at += num_bytes
    if at != len(binary):
        raise malformed(f"The body has {len(binary) - at} bytes that belong to no input; check each binary_data_size.")
    if model.matrix is None or model.matrix.name not in columns:
        return columns
    if len(columns) > 1:
        raise invalid(model.matrix.name, "holds all columns, and stands beside others; send it alone.")
    return columns_of_matrix(columns[model.matrix.name], [spec.name for spec in model.inputs])


def _input_spec(tensor: object, specs: Mapping[str, TensorSpec]) -> TensorSpec:
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise invalid("inputs", "holds a tensor without a name; send objects with name, shape, datatype and data.")
    name = tensor["name"]
    refuse_unknown([name], specs, where="inputs")
    refuse_unknown(tensor, ("name", "shape", "datatype", "parameters", "data"), where=f"input {name}")
    return specs[name]


def _datatype(spec: TensorSpec, tensor: Mapping[str, Any]) -> str:
    sent = tensor.get("datatype")
    if not isinstance(sent, str) or sent not in (*BINARY_TYPES, "BYTES") or not accepts(spec.datatype, sent):
        shown = sent[:20] if isinstance(sent, str) else json_type(sent)
        raise invalid(spec.name, f"has datatype {shown}; send {spec.datatype}.")
    return sent


def _json_values(spec: TensorSpec, tensor: Mapping[str, Any]) -> list[Any]:
    _datatype(spec, tensor)
    num_values = check_shape(spec, tensor.get("shape")) * spec.shape[-1]
    if "data" not in tensor:
        raise invalid(spec.name, "has no data; send a list of values.")
    values = flatten(spec.name, tensor["data"], width=spec.shape[-1])
    if len(values) != num_values:
        raise invalid(spec.name, f"has {len(values)} values of data for shape {tensor['shape']}; send {num_values}.")
    return values


def _binary_values(spec: TensorSpec, tensor: Mapping[str, Any], data: memoryview) -> list[Any]:
    datatype = _datatype(spec, tensor)
    if "data" in tensor:
        raise invalid(spec.name, "has both data and binary_data_size; send one of them.")
    num_values = check_shape(spec, tensor.get("shape")) * spec.shape[-1]
    return decode_binary(spec.name, datatype, data, num_values, is_image=spec.is_image)


def requested_outputs(wanted: object, specs: Sequence[TensorSpec], *, binary: bool) -> tuple[OutputRequest, ...]:
    """The outputs that a request asks for, all of them where it names none, as bytes if `binary` and it says nothing.

    Raises:
        RequestError: 422 naming the member that is wrong.
    """
    if wanted is None or wanted == []:
        return tuple(OutputRequest(spec=spec, binary=binary) for spec in specs)
    if not isinstance(wanted, list):
        raise invalid("outputs", f"is {json_type(wanted)}; send a list of objects with a name.")
    by_name = {spec.name: spec for spec in specs}
    requests: list[OutputRequest] = []
    for output in wanted:
        if not isinstance(output, dict) or not isinstance(output.get("name"), str):
            raise invalid("outputs", "holds an output without a name; send objects with a name.")
        refuse_unknown([output["name"]], by_name, where="outputs")
        refuse_unknown(output, ("name", "parameters"), where=f"output {output['name']}")
        if any(output["name"] == request.spec.name for request in requests):
            raise invalid(output["name"], "stands twice in outputs; ask for it once.")
        choice = checked_parameters(output, output["name"]).get("binary_data", binary)
        requests.append(OutputRequest(spec=by_name[output["name"]], binary=choice is True))
    return tuple(requests)
