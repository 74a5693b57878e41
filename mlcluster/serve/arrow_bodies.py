"""Arrow IPC bodies: from a table of the model's columns to Python values, and from answers to a table.

What comes in is held to what it says of itself before pyarrow decodes it (`arrow_layout.py`): how many bytes its
buffers become once they are decompressed, how many rows and columns there are, and that no column nests or brings a
type of its own, whose code would run. Only then it is read, and validated in full before a value of it is looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mlcluster.serve.arrow_layout import FLAT_TYPES, BatchLayout, batch_layout, schema_fields
from mlcluster.serve.invocations import Columns, refuse_repeated
from mlcluster.serve.problem import RequestError, invalid, malformed, shorten
from mlcluster.serve.reception import RequestLimits
from mlcluster.serve.tensors import TensorSpec, listed

STREAM = "application/vnd.apache.arrow.stream"
FILE = "application/vnd.apache.arrow.file"
_MAGIC, _PADDED_MAGIC = b"ARROW1", b"ARROW1\0\0"
_END = b"\xff\xff\xff\xff\0\0\0\0"
_MAX_MESSAGES = 1_024
_EXTENSION = b"ARROW:extension"
_ARROW_TYPES = {"BYTES": pa.string(), "BOOL": pa.bool_(), "INT64": pa.int64(), "FP64": pa.float64()}
_UNREADABLE = (pa.ArrowException, OSError, ValueError, IndexError, OverflowError, struct.error)


def parse_arrow(body: bytes, media_type: str, limits: RequestLimits, *, max_columns: int) -> Columns:
    """Values by column, None for missing or NaN, of a stream or file with at most `max_columns`.

    Raises:
        RequestError: 400 for what cannot be read, 413 for what would become too large, 422 naming the column that has
            a type which no column of a model has.
    """
    stream = _whole_stream(body, media_type)
    try:
        _Check(limits, max_columns).check(stream)
        options = pa.ipc.IpcReadOptions(ensure_alignment=pa.ipc.Alignment.DataTypeSpecific, use_threads=False)
        with pa.ipc.open_stream(pa.py_buffer(stream), options=options) as reader:
            table = reader.read_all()
        table.validate(full=True)
    except _UNREADABLE as error:
        reason = shorten(" ".join(str(error).split()), 200)
        raise malformed(f"The body is no Arrow IPC {media_type.rpartition('.')[2]}: {reason}.") from error
    refuse_repeated(table.schema.names)
    room = _Room(limits.max_decoded_bytes)
    return {name: _values(table.column(name), room) for name in table.schema.names}


def arrow_stream(
    specs: Sequence[TensorSpec], values: Mapping[str, Sequence[Any]], metadata: Mapping[str, str]
) -> bytes:
    """A stream of one batch with a column an output; one of several values a row is a list of fixed size.

    `values` are flat and row-major; `metadata` is of the schema.
    """
    arrays = []
    for spec in specs:
        flat = pa.array(values[spec.name], type=_ARROW_TYPES[spec.datatype])
        arrays.append(flat if len(spec.shape) == 1 else pa.FixedSizeListArray.from_arrays(flat, spec.shape[1]))
    batch = pa.RecordBatch.from_arrays(arrays, names=[spec.name for spec in specs])
    batch = batch.replace_schema_metadata(dict(metadata))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def _whole_stream(body: bytes, media_type: str) -> bytes:
    """The stream itself, or the one that a file has between its magic words: its footer says the same once more."""
    if media_type == STREAM:
        # One that was cut off between two batches could not be told from one that is whole.
        if not body.endswith(_END):
            raise malformed("The body is no whole Arrow IPC stream: it has no end; close its writer.")
        return body
    if not body.startswith(_PADDED_MAGIC) or not body.endswith(_MAGIC):
        raise malformed("The body is no Arrow IPC file: it does not begin and end with ARROW1.")
    return body[len(_PADDED_MAGIC) :]


class _Room:
    """Bytes that may yet be decoded."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0

    def take(self, num_bytes: int) -> None:
        self._taken += num_bytes
        if self._taken > self._limit:
            detail = (
                f"The body becomes more than {self._limit} bytes when it is decoded; send the rows in several requests."
            )
            raise RequestError(413, detail)


class _Check:
    """Holds a stream's messages to the limits, by what they say of themselves."""

    def __init__(self, limits: RequestLimits, max_columns: int) -> None:
        self._max_rows = limits.max_rows
        self._max_columns = max_columns
        self._room = _Room(limits.max_decoded_bytes)
        self._num_rows = 0

    def check(self, stream: bytes) -> None:
        num_columns = 0
        for index, message in enumerate(pa.ipc.MessageReader.open_stream(pa.py_buffer(stream))):
            if index >= _MAX_MESSAGES:
                raise RequestError(413, f"The body has more than {_MAX_MESSAGES} batches; send larger ones.")
            metadata = memoryview(message.metadata)
            if index == 0:
                num_columns = self._check_schema(message, metadata)
                continue
            if message.type not in ("record batch", "dictionary"):
                raise ValueError(f"it holds a message of type {message.type}")
            is_dictionary = message.type == "dictionary"
            max_fields = 1 if is_dictionary else num_columns
            layout = batch_layout(metadata, is_dictionary=is_dictionary, max_fields=max_fields)
            self._check_batch(layout, memoryview(message.body), is_dictionary=is_dictionary)
        if num_columns == 0:
            raise ValueError("it has no columns")

    def _check_schema(self, message: Any, metadata: memoryview) -> int:
        if message.type != "schema":
            raise ValueError(f"it begins with a message of type {message.type}, not with a schema")
        fields = schema_fields(metadata, max_fields=self._max_columns)
        refuse_repeated([field.name for field in fields])
        for field in fields:
            if field.num_children or field.type_number not in FLAT_TYPES:
                raise invalid(
                    field.name, "has a type that no column of a model has; send numbers, strings or booleans."
                )
        if _EXTENSION in bytes(metadata):
            raise RequestError(422, "A column has an extension type; send the values that it stands for.")
        return len(fields)

    def _check_batch(self, layout: BatchLayout, body: memoryview, *, is_dictionary: bool) -> None:
        if layout.is_delta:
            raise RequestError(422, "A dictionary comes in parts (a delta); send it whole.")
        if not is_dictionary:
            self._num_rows += max(0, layout.num_rows)
        if max(self._num_rows, layout.num_rows) > self._max_rows:
            detail = f"The request has more than {self._max_rows} rows; send at most {self._max_rows} in one."
            raise RequestError(422, detail)
        if any(length != layout.num_rows or not 0 <= nulls <= length for length, nulls in layout.nodes):
            raise ValueError("a column has another length than its batch")
        for length in layout.decoded_lengths(body):
            self._room.take(length)


def _values(column: pa.ChunkedArray, room: _Room) -> list[Any]:
    values: list[Any] = []
    for chunk in column.chunks:
        values += _dictionary_values(chunk, room) if pa.types.is_dictionary(chunk.type) else _plain_values(chunk)
    return values


def _dictionary_values(chunk: pa.DictionaryArray, room: _Room) -> list[Any]:
    """Each value that is used once, in the memory of one: a dictionary of one long string is short for many."""
    indices = chunk.indices.to_pylist()
    used = sorted({index for index in indices if index is not None})
    taken = chunk.dictionary.take(pa.array(used, pa.int64()))
    room.take(taken.nbytes)
    by_index = dict(zip(used, _plain_values(taken), strict=True))
    found = [None if index is None else by_index[index] for index in indices]
    # Each row has a copy of its own once they are a table.
    room.take(sum(len(value) for value in found if isinstance(value, str | bytes)))
    return found


def _plain_values(array: pa.Array) -> list[Any]:
    kind = array.type
    if pa.types.is_floating(kind) or (pa.types.is_integer(kind) and not array.null_count):
        return listed(np.asarray(array.to_numpy(zero_copy_only=False)))
    values: list[Any] = array.to_pylist()
    if pa.types.is_decimal(kind):
        return [None if value is None else float(value) for value in values]
    return values
