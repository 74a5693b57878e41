"""What the messages of an Arrow IPC stream say of themselves, read before anything that they describe is touched.

A message is a flatbuffer, whose tables are those of the format (Schema.fbs and Message.fbs of
https://arrow.apache.org/docs/format/Columnar.html), and a body. pyarrow has verified the flatbuffer by the time it is
read here; it does not show what stands in it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flatbuffers import number_types
from flatbuffers.table import Table

FLAT_TYPES = frozenset({1, 2, 3, 4, 5, 6, 7, 19, 20})
"""Types of one value a row, by their numbers in Schema.fbs: null, whole numbers, floats, bytes, text, booleans,
decimals, and the large forms of bytes and text."""
_LITTLE_ENDIAN = 0
_INT64 = struct.Struct("<q")
_PAIR = struct.Struct("<qq")
_NOT_COMPRESSED = -1
"""Instead of a length, before a buffer that would not have become smaller."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldLayout:
    """One column of a schema."""

    name: str
    type_number: int
    num_children: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchLayout:
    """What a batch of rows, or of a dictionary's values, says of itself; nothing of it has been held to its body."""

    num_rows: int
    nodes: tuple[tuple[int, int], ...]
    """Length and count of nulls by column."""
    buffers: tuple[tuple[int, int], ...]
    """Offset and length within the body."""
    is_compressed: bool
    is_delta: bool = False

    def decoded_lengths(self, body: memoryview) -> Iterator[int]:
        """Bytes that each buffer takes once it is decoded, by its own account.

        Raises:
            ValueError: one lies outside of the body, or announces no length.
        """
        for offset, length in self.buffers:
            if offset < 0 or length < 0 or offset + length > len(body):
                raise ValueError("a buffer lies outside of its body")
            if not self.is_compressed or length == 0:
                yield length
                continue
            if length < _INT64.size:
                raise ValueError("a compressed buffer is shorter than its length")
            (announced,) = _INT64.unpack_from(body, offset)
            if announced < _NOT_COMPRESSED:
                raise ValueError("a compressed buffer has a negative length")
            yield length - _INT64.size if announced == _NOT_COMPRESSED else announced


def schema_fields(metadata: memoryview, *, max_fields: int) -> list[FieldLayout]:
    """The columns of a message that is a schema.

    Raises:
        ValueError: there are more of them, or their numbers are not little-endian.
    """
    schema = _header(metadata)
    endianness = schema.at(0)
    if endianness and schema.table.Get(number_types.Int16Flags, endianness) != _LITTLE_ENDIAN:
        raise ValueError("its numbers are big-endian")
    return [
        FieldLayout(
            name=field.text(0),
            type_number=field.number(2, number_types.Uint8Flags),
            num_children=field.length(5),
        )
        for field in schema.tables(1, max_fields)
    ]


def batch_layout(metadata: memoryview, *, is_dictionary: bool, max_fields: int) -> BatchLayout:
    """The layout of a message that is a batch of rows, or of a dictionary.

    Raises:
        ValueError: it has more columns, or more buffers than they can have.
    """
    header = _header(metadata)
    is_delta = is_dictionary and header.number(2, number_types.BoolFlags)
    batch = header.inner(1) if is_dictionary else header
    return BatchLayout(
        num_rows=batch.number(0, number_types.Int64Flags),
        nodes=batch.pairs(1, max_fields),
        buffers=batch.pairs(2, 3 * max_fields),
        is_compressed=batch.at(3) != 0,
        is_delta=bool(is_delta),
    )


class _Node:
    """A table of a flatbuffer; slots are numbered as in its definition."""

    def __init__(self, data: Any, at: int) -> None:
        self.table = Table(data, at)

    def at(self, slot: int) -> int:
        """Where the slot's value stands; 0 where it has none."""
        offset = self.table.Offset(4 + 2 * slot)
        return int(self.table.Pos + offset) if offset else 0

    def number(self, slot: int, flags: Any) -> int:
        where = self.at(slot)
        return int(self.table.Get(flags, where)) if where else 0

    def text(self, slot: int) -> str:
        where = self.at(slot)
        return str(self.table.String(where), "utf-8") if where else ""

    def inner(self, slot: int) -> _Node:
        where = self.at(slot)
        if not where:
            raise ValueError("a part of it is missing")
        return _Node(self.table.Bytes, self.table.Indirect(where))

    def length(self, slot: int, limit: int | None = None) -> int:
        """Of a vector."""
        offset = self.table.Offset(4 + 2 * slot)
        length = int(self.table.VectorLen(offset)) if offset else 0
        if limit is not None and length > limit:
            raise ValueError(f"it has {length} parts where {limit} were expected at most")
        return length

    def tables(self, slot: int, limit: int) -> Iterator[_Node]:
        """A vector of tables."""
        for index in range(self.length(slot, limit)):
            start = self.table.Vector(self.table.Offset(4 + 2 * slot))
            yield _Node(self.table.Bytes, self.table.Indirect(start + 4 * index))

    def pairs(self, slot: int, limit: int) -> tuple[tuple[int, int], ...]:
        """A vector of structs of two numbers of 64 bits."""
        length = self.length(slot, limit)
        if not length:
            return ()
        start = self.table.Vector(self.table.Offset(4 + 2 * slot))
        return tuple(_PAIR.unpack_from(self.table.Bytes, start + _PAIR.size * index) for index in range(length))


def _header(metadata: memoryview) -> _Node:
    """The schema or batch within a message."""
    (root,) = struct.unpack_from("<I", metadata, 0)
    return _Node(metadata, root).inner(2)
