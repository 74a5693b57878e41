"""A file of frames that one process appends to and anybody may read: what is whole when it is killed is kept.

A frame is its length and its CRC-32 (little-endian, four bytes each) and a message: the first is a schema, as Arrow's
IPC format encapsulates it, each other one some rows of that schema (`frames.py`). The file is locked for as long
as its writer lives: whoever gets the lock knows that nothing more will come.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from mlcluster.serve.records.frames import batch_of

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
            self.append([schema.serialize()])
            unlocked.rename(path)
        except OSError:
            self.close()
            unlocked.unlink(missing_ok=True)
            raise

    def append(self, message: Sequence[bytes | bytearray | pa.Buffer]) -> None:
        """One frame, whole, in the hands of the kernel; the message is given in parts.

        Raises:
            OSError: there is no room, and nothing of the frame is left in the file.
        """
        checksum, size = 0, 0
        for part in message:
            checksum, size = zlib.crc32(part, checksum), size + len(part)
        try:
            written = os.writev(self._descriptor, [_HEAD.pack(size, checksum), *message])
            if written < _HEAD.size + size:
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
    frames = _frames(path.read_bytes())
    first = next(frames, None)
    if first is None:
        return None
    schema = pa.ipc.read_schema(pa.py_buffer(first))
    return schema, [batch_of(frame, schema) for frame in frames]


def _frames(data: bytes) -> Iterator[bytes]:
    at = 0
    while at + _HEAD.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, at)
        frame = data[at + _HEAD.size : at + _HEAD.size + length]
        if not length or len(frame) < length or zlib.crc32(frame) != checksum:
            return
        yield frame
        at += _HEAD.size + length


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Whether the lock of a file or folder is the caller's while this lasts; of a file, that its writer has ended."""
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
