"""The footers of Parquet files, each parsed once.

A footer grows with its file's row groups, and a file is read a row group at a time: parsed anew for each, footers cost
the square of the file's size in time. In memory too: in pyarrow a `FileMetaData` and its `ParquetSchema` hold each
other, so that each lives until the garbage collector comes by, which few objects of many megabytes do not hurry.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

import pyarrow.parquet as pq
from pyarrow import NativeFile, fs

_MOST_FOOTERS = 8
_held: OrderedDict[tuple[str, str, int, int | None], pq.FileMetaData] = OrderedDict()
_lock = threading.Lock()


def footer(filesystem: fs.FileSystem, path: str, stream: NativeFile) -> pq.FileMetaData:
    """The footer of the file at `path`, open as `stream`; parsed anew once its size or its time has changed.

    Raises:
        OSError, pa.ArrowException: it cannot be read, or is none.
    """
    info = filesystem.get_file_info(path)
    key = (filesystem.type_name, path, stream.size(), info.mtime_ns)
    with _lock:
        if key in _held:
            _held.move_to_end(key)
            return _held[key]
    # Outside the lock: another file's reader need not wait. Two that parse the same one at once agree.
    parsed = pq.read_metadata(stream)
    with _lock:
        parsed = _held.setdefault(key, parsed)
        while len(_held) > _MOST_FOOTERS:
            _held.popitem(last=False)
    return parsed
