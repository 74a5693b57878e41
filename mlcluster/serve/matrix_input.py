"""All columns of a model of numbers as one tensor, (rows, columns): what a client that has a matrix would send.

It is the model's second form of input. Its values are held to the columns' own types and rules, as those of a tensor a
column are, and are answered with the same bits.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlcluster.data import TableSchema
from mlcluster.serve.column_stack import ColumnStack
from mlcluster.serve.tensors import BINARY_TYPES, TensorSpec

MATRIX = "features"
"""Its name; a model with a column that is called so takes no matrix."""
_CODES = {"FP32": "f", "FP64": "d"}
"""Of `struct`: the types that a client with a matrix has."""
_FEW_VALUES = 32
"""Up to here lists are faster than arrays."""


def matrix_spec(schema: TableSchema) -> TensorSpec | None:
    """The tensor, as metadata has it; None where a column is no number, or has its name."""
    if MATRIX in schema.feature_names or any(column.kind != "number" for column in schema.features):
        return None
    return TensorSpec(name=MATRIX, datatype="FP64", shape=(-1, len(schema.features)))


def columns_of_matrix(values: list[Any], names: Sequence[str]) -> dict[str, list[Any]]:
    """Values by column, of values row by row."""
    return {name: values[at :: len(names)] for at, name in enumerate(names)}


class MatrixReader:
    """Reads it where it is plainly valid; None, or an error of any kind, leaves it to a second look."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._places = {name: at for at, name in enumerate(self._names)}

    def num_rows(self, tensor: Mapping[str, Any]) -> int:
        """By its shape.

        Raises:
            ValueError: that is not the plain one.
        """
        num_rows, width = tensor["shape"]
        if type(num_rows) is not int or type(width) is not int or width != len(self._names) or num_rows < 1:
            raise ValueError("another shape")
        return num_rows

    def of_json(self, data: Any, num_rows: int) -> dict[str, list[Any]] | None:
        """Values by column, of numbers and None: row by row, flat or a list a row."""
        if type(data) is not list:
            return None
        if type(data[0]) is list:
            if len(data) != num_rows or any(type(row) is not list for row in data):
                return None
            return dict(zip(self._names, map(list, zip(*data, strict=True)), strict=True))
        return columns_of_matrix(data, self._names) if len(data) == num_rows * len(self._names) else None

    def of_bytes(self, body: bytes, at: int, datatype: str, num_rows: int) -> Mapping[str, Any]:
        """Values by column, of the bytes from `at` on: lists where they are few, else an array."""
        count = num_rows * len(self._names)
        if count > _FEW_VALUES:
            values = np.frombuffer(body, BINARY_TYPES[datatype], count, at).reshape(num_rows, -1)
            return ColumnStack(self._names, self._places, values.T)
        found = struct.unpack_from(f"<{count}{_CODES[datatype]}", body, at)
        return columns_of_matrix([None if value != value else value for value in found], self._names)  # noqa: PLR0124

    @staticmethod
    def num_bytes(datatype: str, count: int) -> int:
        """Of so many values.

        Raises:
            KeyError: it is none of the plain types.
        """
        return count * struct.calcsize(_CODES[datatype])
