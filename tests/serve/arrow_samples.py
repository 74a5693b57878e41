"""Arrow IPC bodies for tests: good ones, and bytes of a message that say something else than they hold."""

from __future__ import annotations

import struct
from typing import Any

import pyarrow as pa


def stream_of(table: pa.Table, *, rows_per_batch: int | None = None, **options: Any) -> bytes:
    return _written(pa.ipc.new_stream, table, rows_per_batch, options)


def file_of(table: pa.Table, **options: Any) -> bytes:
    return _written(pa.ipc.new_file, table, None, options)


def _written(opened: Any, table: pa.Table, rows_per_batch: int | None, options: dict[str, Any]) -> bytes:
    sink = pa.BufferOutputStream()
    with opened(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=rows_per_batch)
    return sink.getvalue().to_pybytes()


def with_announced_length(stream: bytes, length: int, announced: int) -> bytes:
    """The stream with another length before each compressed buffer that says `length`."""
    assert struct.pack("<q", length) in stream
    return stream.replace(struct.pack("<q", length), struct.pack("<q", announced))
