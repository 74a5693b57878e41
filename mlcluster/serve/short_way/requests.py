"""Requests that are plainly valid, read without a second look: what is not gives None, and is read with care instead.

A request that is read here is one that `inference_protocol` or `invocations` reads to the same columns. JSON parsers
keep the last of two equal keys without a word, where the careful one refuses the request; so strings are counted: in a
body with as many of them as what was read from it, no key was dropped.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import orjson

from mlcluster.serve.column_stack import ColumnStack
from mlcluster.serve.inference_protocol import ModelTensors, OutputRequest, requested_outputs
from mlcluster.serve.invocations import columns_of_invocation
from mlcluster.serve.matrix_input import MatrixReader
from mlcluster.serve.problem import RequestError
from mlcluster.serve.tensors import BINARY_TYPES, accepts, decode_binary, packed_doubles

_NUM_MEMBERS = 4
"""Of a plain tensor: name, shape, datatype, and data or parameters."""
_ARRAY_ROWS = 8
"""From here on numbers that come as bytes stay arrays."""
_CODES = {name: {"l": "q", "L": "Q"}.get(dtype.char, dtype.char) for name, dtype in BINARY_TYPES.items()}
"""The datatypes as `struct` calls them in its standard sizes."""
_BINARY_OUTPUT = "binary_data_output"
_HUGE = float(2**63)
_FEW_VALUES = 64
"""Up to here a look at each value beats numpy."""
"""From here on a whole number may have had more than 64 bits, which orjson makes a float and `json` does not."""


@dataclass(frozen=True, slots=True)
class FastRequest:
    """Values by column, None for missing, of `num_rows` rows."""

    columns: Mapping[str, Any]
    """Lists, or arrays in which NaN is missing."""
    num_rows: int
    id: str | None = None
    outputs: tuple[OutputRequest, ...] = ()


class FastReader:
    """Reads the requests of one model."""

    def __init__(self, tensors: ModelTensors, *, max_rows: int) -> None:
        inputs, outputs = tensors.inputs, tensors.outputs
        self._matrix = None if tensors.matrix is None else tensors.matrix.name
        self._datatypes: Mapping[str, str] = {spec.name: spec.datatype for spec in inputs}
        self._names = tuple(self._datatypes)
        self._matrix_reader = MatrixReader(self._names)
        self._num_columns = len(inputs)
        self._floats = tuple(spec.name for spec in inputs if spec.datatype == "FP64")
        self._max_rows = max_rows
        self._outputs = outputs
        self._all_outputs = {binary: requested_outputs(None, outputs, binary=binary) for binary in (False, True)}

    def infer(self, body: bytes, header_length: bytes | None) -> FastRequest | None:
        """A request of the Open Inference Protocol, whose JSON has `header_length` bytes where others follow it."""
        try:
            length = len(body) if header_length is None else _length(header_length)
            document = orjson.loads(body if header_length is None else memoryview(body)[:length])
            found = self._inputs(document["inputs"], body, length)
            if found is None or not 0 < found[1] <= self._max_rows:
                return None
            columns, num_rows, num_strings = found
            members = {"inputs"}
            request_id, is_binary, outputs = None, False, None
            if "id" in document:
                request_id = document["id"]
                if type(request_id) is not str or len(request_id) > 256:
                    return None
                members.add("id")
                num_strings += 2
            if "parameters" in document:
                is_binary = document["parameters"][_BINARY_OUTPUT] is True
                if len(document["parameters"]) != 1:
                    return None
                members.add("parameters")
                num_strings += 2
            if "outputs" in document:
                outputs = requested_outputs(document["outputs"], self._outputs, binary=is_binary)
                members.add("outputs")
                num_strings += 1 + _strings_within(document["outputs"])
            if document.keys() != members or _num_strings(body[:length]) != num_strings + 1:
                return None
            if self._holds_huge(columns):
                return None
        except (LookupError, TypeError, ValueError, AttributeError, RequestError):
            return None
        return FastRequest(columns, num_rows, request_id, outputs or self._all_outputs[is_binary])

    def invocation(self, body: bytes) -> FastRequest | None:
        """A request of MLflow's scoring protocol, in one of its four forms and with nothing beside it."""
        try:
            document = orjson.loads(body)
            ((form, value),) = document.items()
            if form == "dataframe_records":
                found = self._records(value)
            elif form == "dataframe_split" and value.keys() == {"columns", "data"}:
                found = self._split(value["columns"], value["data"])
            else:
                found = columns_of_invocation(document, self._names), _strings_within(value)
            columns, num_strings = found
            num_rows = len(next(iter(columns.values())))
            if not 0 < num_rows <= self._max_rows or _num_strings(body) != num_strings + 1:
                return None
            if self._holds_huge(columns):
                return None
        except (KeyError, TypeError, ValueError, AttributeError, StopIteration, RequestError):
            return None
        return FastRequest(columns=columns, num_rows=num_rows)

    def _inputs(self, tensors: Any, body: bytes, at: int) -> tuple[Mapping[str, Any], int, int] | None:
        """Columns, their rows, and how many strings stand in the JSON of the tensors."""
        if type(tensors) is list and len(tensors) == 1 and tensors[0]["name"] == self._matrix:
            return self._matrix_columns(tensors[0], body, at)
        if type(tensors) is not list or len(tensors) != self._num_columns:
            return None
        columns: dict[str, Any] = {}
        num_rows, num_strings = tensors[0]["shape"][0], 0
        shapes = [num_rows], [num_rows, 1]
        for tensor in tensors:
            name, datatype, shape = tensor["name"], tensor["datatype"], tensor["shape"]
            declared = self._datatypes[name]
            # True and 1.0 equal 1, and are no sizes.
            if shape not in shapes or type(shape[0]) is not int or type(shape[-1]) is not int:
                return None
            if datatype != declared and not accepts(declared, datatype):
                return None
            if "data" in tensor:
                columns[name] = values = tensor["data"]
                if type(values) is not list or len(values) != num_rows or len(tensor) != _NUM_MEMBERS:
                    return None
                num_strings += 6
                if datatype == "BYTES":
                    num_strings += num_rows - values.count(None)
            else:
                num_bytes = _binary_size(tensor)
                if datatype in ("BYTES", "BOOL"):
                    columns[name] = decode_binary(name, datatype, memoryview(body)[at : at + num_bytes], num_rows)
                elif num_bytes == num_rows * BINARY_TYPES[datatype].itemsize:
                    columns[name] = _numbers(body, datatype, num_rows, at)
                else:
                    return None
                at += num_bytes
                num_strings += 7
        is_whole = at == len(body) and len(columns) == self._num_columns
        return (columns, num_rows, num_strings) if is_whole else None

    def _matrix_columns(self, tensor: Any, body: bytes, at: int) -> tuple[Mapping[str, Any], int, int] | None:
        reader, datatype = self._matrix_reader, tensor["datatype"]
        num_rows = reader.num_rows(tensor)
        size = reader.num_bytes(datatype, num_rows * self._num_columns)
        if "data" in tensor:
            columns = reader.of_json(tensor["data"], num_rows)
            is_plain = columns is not None and at == len(body) and len(tensor) == _NUM_MEMBERS
            return (columns, num_rows, 6) if columns is not None and is_plain else None
        if _binary_size(tensor) != size or at + size != len(body):
            return None
        return reader.of_bytes(body, at, datatype, num_rows), num_rows, 7

    def _holds_huge(self, columns: Mapping[str, Any]) -> bool:
        if isinstance(columns, ColumnStack):
            return False
        listed = [columns[name] for name in self._floats if type(columns[name]) is list]
        values = [*chain.from_iterable(listed)]
        if len(values) > _FEW_VALUES:
            return bool((np.abs(packed_doubles(values)) >= _HUGE).any())
        if None in values:
            values = [value for value in values if value is not None]
        return bool(values) and not (min(values) > -_HUGE and max(values) < _HUGE)

    def _records(self, rows: Any) -> tuple[dict[str, list[Any]], int]:
        names = self._datatypes
        if type(rows) is not list or any(len(row) != self._num_columns for row in rows):
            raise ValueError("other columns")
        columns = {name: [row[name] for row in rows] for name in names}
        return columns, len(rows) * self._num_columns + self._num_texts(columns)

    def _split(self, names: Any, rows: Any) -> tuple[dict[str, list[Any]], int]:
        if names and len(set(names)) != len(names):
            raise ValueError("a name twice")
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        if columns.keys() != self._datatypes.keys():
            raise ValueError("other columns")
        return columns, 2 + len(names) + self._num_texts(columns)

    def _num_texts(self, columns: Mapping[str, list[Any]]) -> int:
        """Strings among the values: those of columns of text that are not missing; others are refused later on."""
        return sum(
            len(columns[name]) - columns[name].count(None)
            for name, datatype in self._datatypes.items()
            if datatype == "BYTES"
        )


def _length(header: bytes) -> int:
    if not header.isdigit():  # `int` takes a sign and underscores as well
        raise ValueError("no length")
    return int(header)


def _binary_size(tensor: Mapping[str, Any]) -> int:
    """The bytes of a tensor that stand behind the JSON."""
    num_bytes = tensor["parameters"]["binary_data_size"]
    if len(tensor) != _NUM_MEMBERS or len(tensor["parameters"]) != 1 or type(num_bytes) is not int or num_bytes < 0:
        raise ValueError("not plain")
    return num_bytes


def _numbers(body: bytes, datatype: str, count: int, at: int) -> Any:
    """Numbers from their bytes: a list with None for NaN where they are few, which takes a third of the time."""
    if count >= _ARRAY_ROWS:
        return np.frombuffer(body, BINARY_TYPES[datatype], count, at)
    values = struct.unpack_from(f"<{count}{_CODES[datatype]}", body, at)
    total = sum(values)
    return list(values) if total == total else [None if value != value else value for value in values]  # noqa: PLR0124


def _strings_within(value: Any) -> int:
    """Keys and strings in a value that was read from JSON."""
    if isinstance(value, dict):
        return len(value) + sum(map(_strings_within, value.values()))
    if isinstance(value, list):
        return sum(map(_strings_within, value))
    return int(isinstance(value, str))


def _num_strings(document: bytes) -> int:
    """How many strings stand in JSON; -1 where a backslash makes it hard to tell."""
    num_quotes = document.count(b'"')
    if b"\\" in document:
        if b"\\\\" in document:
            return -1
        num_quotes -= document.count(b'\\"')
    return num_quotes // 2
