"""A file of frames that one process appends to and anybody may read: what is whole when it is killed is kept.

A frame is its length and its CRC-32 (little-endian, four bytes each) and an encapsulated message of Arrow's IPC format;
the first is the schema, each other one a record batch. The file is locked for as long as its writer lives: whoever gets
the lock knows that nothing more will come.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

_HEAD = struct.Struct("<II")


class WriteAheadFile:
    """A new file at `path`, readable by its owner alone.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.num_bytes = 0
        # Under another name until it is locked: others would take it for one that was left.
        unlocked = path.with_suffix(".new")
        self._descriptor = os.open(unlocked, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._append(schema.serialize())
            unlocked.rename(path)
        except OSError:
            self.close()
            unlocked.unlink(missing_ok=True)
            raise

    def append(self, batch: pa.RecordBatch) -> None:
        """One frame, whole, in the hands of the kernel.

        Raises:
            OSError: there is no room, and nothing of the frame is left in the file.
        """
        self._append(batch.serialize())

    def _append(self, message: pa.Buffer) -> None:
        frame = [_HEAD.pack(message.size, zlib.crc32(message)), message]
        try:
            written = os.writev(self._descriptor, frame)
            if written < _HEAD.size + message.size:
                raise OSError(28, "No space left on device")  # noqa: TRY301 - as the next write would say
        except OSError:
            os.ftruncate(self._descriptor, self.num_bytes)
            raise
        self.num_bytes += written

    def close(self) -> None:
        """Lets go of the lock."""
        os.close(self._descriptor)


def read_frames(path: Path) -> tuple[pa.Schema, list[pa.RecordBatch]] | None:
    """The schema and the whole batches of a file, up to the first frame that is none; None without a schema.

    Raises:
        FileNotFoundError: it is not there any more.
    """
    frames = _frames(pa.py_buffer(path.read_bytes()))
    first = next(frames, None)
    if first is None:
        return None
    schema = pa.ipc.read_schema(first)
    return schema, [pa.ipc.read_record_batch(frame, schema) for frame in frames]


def _frames(data: pa.Buffer) -> Iterator[pa.Buffer]:
    at = 0
    while at + _HEAD.size <= data.size:
        length, checksum = _HEAD.unpack(data[at : at + _HEAD.size])
        frame = data[at + _HEAD.size : at + _HEAD.size + length]
        if not length or frame.size < length or zlib.crc32(frame) != checksum:
            return
        yield frame
        at += _HEAD.size + length


@contextmanager
def abandoned(path: Path) -> Iterator[bool]:
    """Whether the writer of the file has ended and nobody else has it; it is the caller's while this lasts."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _is_locked(descriptor) and os.fstat(descriptor).st_nlink > 0
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
