"""A frame of an open file of records: answers as bytes, and the table that they are.

    magic, the length of each part in bytes (`PART_LENGTHS`), and the parts:
    heads        one `HEADS` a request
    ids          prediction ids; of each as many bytes as its head says
    request_ids  the same
    trace_ids    32 bytes a request
    digests      64 bytes a request whose values are not kept
    doubles      float64, (rows, numbers): features of that type, and NaN for missing
    others       JSON with a comma behind it: the values by feature of each request
    scores       float64, (rows, classes), or (rows,)

All numbers are little-endian. Names and types of columns stand in the file's schema.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate, chain, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from mlcluster.serve.records.layout import INPUT, ROWS, are_kept, constants_of, list_offsets

MAGIC = b"MLB1"
"""A frame of Arrow's, as earlier versions wrote them, starts with four bytes of 255."""
PART_LENGTHS = struct.Struct("<8Q")
HEADS = np.dtype(
    [
        ("at_ms", "<i8"),
        ("latency_ms", "<f4"),
        ("num_asked", "<i4"),
        ("num_rows", "<i4"),
        ("id", "<i4"),
        ("request_id", "<i4"),
    ]
)
"""`num_rows` are those whose values are kept, or 1 where none are; the ids have so many bytes."""
TRACE_ID_LENGTH, _DIGEST_LENGTH = 32, 64


def batch_of(frame: bytes, schema: pa.Schema) -> pa.RecordBatch:
    """The table of a frame: one row a request, see `layout.py`."""
    if not frame.startswith(MAGIC):
        return pa.ipc.read_record_batch(pa.py_buffer(frame), schema)
    start = len(MAGIC)
    ends = accumulate(PART_LENGTHS.unpack_from(frame, start), initial=start + PART_LENGTHS.size)
    # Copies, which lie where Arrow wants numbers to lie; within the frame text of any length is before them.
    parts = (frame[first:last] for first, last in pairwise(ends))
    packed_heads, ids, request_ids, trace_ids, digests, doubles, others, scores = parts
    heads = np.frombuffer(packed_heads, dtype=HEADS)
    num_asked = np.ascontiguousarray(heads["num_asked"])
    is_kept = are_kept(num_asked)
    rows = _rows(schema, int(heads["num_rows"].sum()), doubles, others, scores)
    columns = [
        _text(ids, heads["id"]),
        pa.array(num_asked),
        pa.array(heads["at_ms"].astype("datetime64[ms]"), schema.field("answered_at").type),
        pa.array(np.ascontiguousarray(heads["latency_ms"])),
        _text(request_ids, heads["request_id"]),
        _text(trace_ids, np.full(len(heads), TRACE_ID_LENGTH)),
        _text(digests, np.where(is_kept, 0, _DIGEST_LENGTH), is_missing=is_kept),
        pa.ListArray.from_arrays(pa.array(list_offsets(heads["num_rows"])), rows, type=schema.field(ROWS).type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _rows(schema: pa.Schema, num_rows: int, doubles: bytes, others: bytes, scores: bytes) -> pa.StructArray:
    kind = schema.field(ROWS).type.value_type
    types = {field.name: field.type for field in kind if field.name.startswith(INPUT)}
    singles = {f"{INPUT}{name}" for name in constants_of(schema)["singles"]}
    numbers = [name for name, one in types.items() if pa.types.is_float64(one)]
    by_column = np.ascontiguousarray(np.frombuffer(doubles).reshape(num_rows, len(numbers)).T)
    found = {}
    for name, values in zip(numbers, by_column, strict=True):
        rounded = values.astype(np.float32).astype(np.float64) if name in singles else values
        found[name] = pa.array(rounded, from_pandas=True)
    if len(found) < len(types):
        by_request = orjson.loads(b"[" + others[:-1] + b"]")
        rest = [name for name in types if name not in found]
        for name, column in zip(rest, zip(*by_request, strict=True), strict=True):
            found[name] = _array([*chain.from_iterable(column)], types[name])
    answers = _answers(np.frombuffer(scores), kind.field(kind.num_fields - 1).type)
    return pa.StructArray.from_arrays([*(found[name] for name in types), answers], fields=list(kind))


def _answers(scores: npt.NDArray[np.float64], kind: pa.DataType) -> pa.Array:
    """Probabilities or values; NaN is of requests whose values are not kept."""
    if pa.types.is_float64(kind):
        return pa.array(scores, from_pandas=True)
    is_left_out = np.isnan(scores[:: kind.list_size])
    mask = pa.array(is_left_out) if is_left_out.any() else None
    return pa.FixedSizeListArray.from_arrays(pa.array(scores), kind.list_size, mask=mask)


def _text(data: bytes, lengths: npt.NDArray[Any], *, is_missing: npt.NDArray[np.bool_] | None = None) -> pa.StringArray:
    validity = None if is_missing is None else pa.py_buffer(np.packbits(~is_missing, bitorder="little"))
    buffers = [validity, pa.py_buffer(list_offsets(lengths)), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.string(), len(lengths), buffers)


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return pa.array([mended(value, kind) for value in values], kind)


def mended(value: Any, kind: pa.DataType) -> Any:
    """The value as near as the type can say it, None where it cannot: the answer was given all the same."""
    try:
        if pa.types.is_string(kind):
            return None if value is None else str(value).encode("utf-8", "replace").decode()
        return pa.scalar(value, kind).as_py()
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return None
