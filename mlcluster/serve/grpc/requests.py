"""ModelInfer's messages: to the document that JSON would have been, and from an answer.

What stands in a request is then judged by `inference_protocol.py`, as over HTTP: raw contents are its tensors as bytes,
typed contents its data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlcluster.serve.careful import CarefulAnswers
from mlcluster.serve.grpc.messages import MESSAGES
from mlcluster.serve.inference_protocol import InferRequest, OutputRequest, checked_parameters, read_infer_request
from mlcluster.serve.problem import RequestError, invalid, malformed
from mlcluster.serve.tensors import encode_binary

_SIZE, _BINARY = "binary_data_size", "binary_data"
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def parse_model_infer(message: Any, careful: CarefulAnswers) -> InferRequest:
    """The request in a ModelInferRequest.

    Raises:
        RequestError: 400 for what cannot be read, 422 naming the member that is wrong.
    """
    raw: Sequence[bytes] = message.raw_input_contents
    for tensor in message.inputs:  # one in shared memory has no contents to count
        checked_parameters({"parameters": dict(tensor.parameters)}, tensor.name)
    if raw and len(raw) != len(message.inputs):
        raise malformed(f"raw_input_contents has {len(raw)} parts for {len(message.inputs)} inputs; send one for each.")
    images = {spec.name for spec in careful.inputs if spec.is_image}
    document = {
        "id": message.id or None,
        "parameters": _parameters(message.parameters),
        "inputs": [
            _raw_input(tensor, raw[index]) if raw else _typed_input(tensor, is_image=tensor.name in images)
            for index, tensor in enumerate(message.inputs)
        ],
        "outputs": [{"name": output.name, "parameters": _parameters(output.parameters)} for output in message.outputs],
    }
    return read_infer_request(document, b"".join(raw), careful.tensors)


def model_infer_response(
    identity: Mapping[str, str],
    request: InferRequest,
    values: Mapping[str, Sequence[Any]],
    *,
    num_rows: int,
    prediction_id: str,
    is_raw: bool,
) -> bytes:
    """A ModelInferResponse, its contents raw or typed as those of the request were."""
    response = MESSAGES["ModelInferResponse"](**identity, id=request.id or "")
    response.parameters["prediction_id"].string_param = prediction_id
    for output in request.outputs:
        _add_output(response, output, values[output.spec.name], num_rows, is_raw=is_raw)
    return bytes(response.SerializeToString())


def _add_output(response: Any, output: OutputRequest, values: Sequence[Any], num_rows: int, *, is_raw: bool) -> None:
    spec = output.spec
    shape = [num_rows if size < 0 else size for size in spec.shape]
    tensor = response.outputs.add(name=spec.name, datatype=spec.datatype, shape=shape)
    if is_raw:
        response.raw_output_contents.append(encode_binary(spec.datatype, values))
    else:
        plain = [value.encode("utf-8", "replace") for value in values] if spec.datatype == "BYTES" else values
        getattr(tensor.contents, _CONTENTS[spec.datatype]).extend(plain)


def _parameters(parameters: Any) -> dict[str, Any]:
    """Their values; how bytes are sent is said by the message itself, and not here."""
    chosen = {name: value.WhichOneof("parameter_choice") for name, value in parameters.items()}
    return {
        name: None if chosen[name] is None else getattr(value, chosen[name])
        for name, value in parameters.items()
        if name not in (_SIZE, _BINARY, "binary_data_output")
    }


def _raw_input(tensor: Any, raw: bytes) -> dict[str, Any]:
    if tensor.HasField("contents"):
        raise invalid(tensor.name, "has both contents and raw_input_contents; send one of them.")
    return {**_head(tensor), "parameters": {**_parameters(tensor.parameters), _SIZE: len(raw)}}


def _typed_input(tensor: Any, *, is_image: bool) -> dict[str, Any]:
    field = _CONTENTS.get(tensor.datatype)
    sent = [found.name for found, _ in tensor.contents.ListFields()]
    if any(name != field for name in sent):
        fix = "send raw_input_contents" if field is None else f"send {field}"
        raise invalid(tensor.name, f"has datatype {tensor.datatype[:20]} and {sent[0]}; {fix}.")
    values = [] if field is None else list(getattr(tensor.contents, field))
    if field == "bytes_contents" and not is_image:
        values = _texts(tensor.name, values)
    elif field in ("fp32_contents", "fp64_contents"):
        values = [None if value != value else value for value in values]  # noqa: PLR0124 - NaN is missing
    return {**_head(tensor), "data": values, "parameters": _parameters(tensor.parameters)}


def _head(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _texts(name: str, values: Sequence[bytes]) -> list[str]:
    try:
        return [value.decode("utf-8") for value in values]
    except UnicodeDecodeError as error:
        raise RequestError(422, f"{name} holds a string that is not UTF-8; encode it as UTF-8.", field=name) from error
