"""The tensors of the Open Inference Protocol: their datatypes, and their values as JSON or as bytes."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcluster.data import FeatureColumn, Label, TableSchema
from mlcluster.serve.json_body import json_type
from mlcluster.serve.problem import RequestError, invalid

BINARY_TYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""The datatypes of fixed width, as they travel in binary; BYTES is the one without."""
_NUMBERS = frozenset(BINARY_TYPES) - {"BOOL"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """One named tensor of a model; -1 in `shape` is the number of rows."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    is_image: bool = False
    """Whether its BYTES are encoded images, and no text; in JSON they are base64."""

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


def input_specs(schema: TableSchema) -> tuple[TensorSpec, ...]:
    """One tensor a raw column, in the schema's order."""
    return tuple(
        TensorSpec(
            name=column.name,
            datatype=_column_datatype(column),
            shape=(-1, 1),
            is_image=column.kind == "image",
        )
        for column in schema.features
    )


def output_specs(schema: TableSchema) -> tuple[TensorSpec, ...]:
    """`label` and `probabilities` of a classification, `value` of a regression."""
    classes = schema.target.classes
    if not classes:
        return (TensorSpec(name="value", datatype="FP64", shape=(-1,)),)
    return (
        TensorSpec(name="label", datatype=_label_datatype(classes), shape=(-1,)),
        TensorSpec(name="probabilities", datatype="FP64", shape=(-1, len(classes))),
    )


def accepts(declared: str, sent: str) -> bool:
    """Whether values of datatype `sent` may stand in a column declared as `declared`: any number for a number.

    Each value is still held to the column's own type; a NaN in a tensor of floats is how binary says "missing".
    """
    return sent == declared or (declared in _NUMBERS and sent in _NUMBERS)


def decode_binary(name: str, datatype: str, data: memoryview, count: int, *, is_image: bool = False) -> list[Any]:
    """`count` Python values from their little-endian bytes; NaN becomes None, and BYTES text unless `is_image`.

    Raises:
        RequestError: the bytes are too few, too many, or text is no UTF-8.
    """
    if datatype == "BYTES":
        return _decode_strings(name, data, count, bytes if is_image else _utf8)
    dtype = BINARY_TYPES[datatype]
    if len(data) != count * dtype.itemsize:
        raise invalid(
            name, f"has {len(data)} bytes of data; {count} values of {datatype} take {count * dtype.itemsize}."
        )
    if datatype == "BOOL" and bytes(data).strip(b"\x00\x01"):
        raise invalid(name, "has a byte other than 0 and 1; a BOOL is one of them.")
    return listed(np.frombuffer(data, dtype=dtype))


def listed(values: npt.NDArray[Any]) -> list[Any]:
    """Python values, None for NaN."""
    found: list[Any] = values.tolist()
    # One sum is cheaper than a look at each; NaN comes from a NaN or from two infinities.
    if values.dtype.kind == "f" and math.isnan(sum(found)):
        return [None if math.isnan(value) else value for value in found]
    return found


def packed_doubles(values: list[Any]) -> npt.NDArray[np.float64]:
    """Numbers, booleans and None, which is NaN, as float64; by `struct` in a third of the time that numpy takes."""
    packed = bytearray(8 * len(values))
    try:
        struct.pack_into(f"{len(values)}d", packed, 0, *values)
    except struct.error:
        return np.array(values, dtype=np.float64)
    return np.frombuffer(packed, dtype=np.float64)


def _utf8(data: memoryview) -> str:
    return str(data, "utf-8")


def _decode_strings(name: str, data: memoryview, count: int, read: Callable[[memoryview], Any]) -> list[Any]:
    values: list[Any] = []
    at = 0
    while at < len(data) and len(values) < count:
        if at + 4 > len(data):
            raise invalid(name, "ends inside a length; each of its strings has a length of four bytes before it.")
        (length,) = struct.unpack_from("<I", data, at)
        at += 4
        if at + length > len(data):
            raise invalid(name, f"ends inside string {len(values)}; it says {length} bytes and has {len(data) - at}.")
        try:
            values.append(read(data[at : at + length]))
        except UnicodeDecodeError as error:
            raise invalid(name, f"holds a string {len(values)} that is not UTF-8; encode it as UTF-8.") from error
        at += length
    if at != len(data) or len(values) != count:
        raise invalid(name, f"does not hold the {count} strings that its shape says.")
    return values


def encode_binary(datatype: str, values: Sequence[Any]) -> bytes:
    """The values' little-endian bytes; a string has its length before it."""
    if datatype == "BYTES":
        # Labels repeat a few values, so that each is encoded once.
        blocks = {value: _encode_string(value) for value in set(values)}
        return b"".join([blocks[value] for value in values])
    return np.asarray(values, dtype=BINARY_TYPES[datatype]).tobytes()


def _encode_string(value: Any) -> bytes:
    text = str(value).encode("utf-8", "replace")
    return struct.pack("<I", len(text)) + text


def flatten(name: str, data: object, *, width: int = 1) -> list[Any]:
    """Tensor data in row-major order, given flat or nested; of more than one column, nested are lists of `width`.

    Raises:
        RequestError: it is no list, nests more deeply than a tensor of columns can, or has a row of another width.
    """
    if not isinstance(data, list):
        raise invalid(name, f"has data that is {json_type(data)}; send a list.")
    if not any(isinstance(item, list) for item in data):
        return data
    flat: list[Any] = []
    for item in data:
        if not isinstance(item, list) or any(isinstance(inner, list) for inner in item):
            raise invalid(name, "has ragged data; send a flat list, or one list a row.")
        if len(item) != width > 1:
            raise invalid(name, f"has a row of {len(item)} values; send {width} in each.")
        flat.extend(item)
    return flat


def recorded_inputs(columns: Mapping[str, Any], specs: Sequence[TensorSpec]) -> dict[str, list[Any]]:
    """The values by column as records keep them: lists, and of an image its SHA-256, whichever way it was sent."""
    return {
        spec.name: values
        if type(values := columns[spec.name]) is list and not spec.is_image
        else _recorded(values, spec)
        for spec in specs
    }


def _recorded(values: Any, spec: TensorSpec) -> list[Any]:
    if spec.is_image:
        return [_image_digest(value) for value in values]
    return listed(values) if isinstance(values, np.ndarray) else list(values)


def _image_digest(value: bytes | str | None) -> str | None:
    if value is None:
        return None
    data = base64.b64decode(value) if isinstance(value, str) else value
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def check_shape(spec: TensorSpec, shape: object) -> int:
    """The number of rows of an input of the shape that `spec` has, which for one column may be [n] or [n, 1].

    Raises:
        RequestError: it is another shape.
    """
    name, width = spec.name, spec.shape[-1]
    wanted = "send [n] or [n, 1] for n rows." if width == 1 else f"send [n, {width}] for n rows."
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 2**31 for size in shape):
        raise RequestError(422, f"{name} has no shape of whole numbers; {wanted}", field=name)
    if shape[1:] != [width] and (len(shape) != 1 or width > 1):
        raise RequestError(422, f"{name} has shape {shape[:8]}; {wanted}", field=name)
    return int(shape[0])


def _column_datatype(column: FeatureColumn) -> str:
    if column.kind == "boolean":
        return "BOOL"
    if column.arrow_type.startswith(("int", "uint")):
        return "UINT64" if column.arrow_type == "uint64" else "INT64"
    return "BYTES" if column.kind in ("category", "image") else "FP64"


def _label_datatype(classes: Sequence[Label]) -> str:
    for kind, datatype in ((bool, "BOOL"), (int, "INT64"), (float, "FP64")):
        if all(type(label) is kind for label in classes):
            return datatype
    if all(isinstance(label, int | float) for label in classes):
        return "FP64"
    return "BYTES"
