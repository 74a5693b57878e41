"""The folder of records: which files there are, how an open one becomes Parquet, and which ones go for want of room.

    predictions-<first>-<last>-<token>.parquet   closed; from when to when it has answers
    predictions-<first>-<token>.open             being written, or left by a process that was killed
    predictions-<first>-<token>.jsonl            lines of JSON, of before there was Parquet

Moments are nanoseconds since 1970 in 19 digits, so that names sort by time; tokens are of one process. Processes share
the folder. A Parquet file is whole or absent: it is written under another name, synced, and renamed.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlcluster.serve.records.layout import CONSTANTS, INPUT, flat_table
from mlcluster.serve.records.write_ahead import locked, read_frames

log = logging.getLogger(__name__)

_NAME = re.compile(
    r"^predictions-(?P<first>\d{19})-(?:(?P<last>\d{19})-)?(?P<token>\d+-[0-9a-f]{8})\.(?P<kind>parquet|open|jsonl)$"
)
_ROWS_PER_GROUP = 1 << 15


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordFile:
    """One file of records, by its name."""

    path: Path
    kind: str
    """`parquet`, `open` or `jsonl`."""
    first_ns: int
    last_ns: int | None
    token: str

    def may_hold(self, milliseconds: int) -> bool:
        """Whether an answer of that moment may be in it."""
        return self.last_ns is None or self.first_ns <= milliseconds * 1_000_000 <= self.last_ns


def record_files(folder: Path) -> list[RecordFile]:
    """All files of records, the oldest first; an open one whose Parquet is there already is left out."""
    found = []
    for path in folder.glob("predictions-*"):
        match = _NAME.match(path.name)
        if match is not None:
            last = None if match["last"] is None else int(match["last"])
            first, token = int(match["first"]), match["token"]
            found.append(RecordFile(path=path, kind=match["kind"], first_ns=first, last_ns=last, token=token))
    closed = {file.token for file in found if file.kind == "parquet"}
    return sorted(
        (file for file in found if file.kind != "open" or file.token not in closed), key=lambda file: file.path.name
    )


def open_path(folder: Path) -> Path:
    """A name for a file that is begun now."""
    return folder / f"predictions-{time.time_ns():019d}-{os.getpid()}-{secrets.token_hex(4)}.open"


def close_file(path: Path) -> Path | None:
    """Makes a Parquet file of an open one, which is removed; None where nothing whole is in it.

    Raises:
        OSError: it cannot be written; the open file stays as it is.
    """
    token = "-".join(path.stem.rsplit("-", 2)[1:])
    closed = next(iter(path.parent.glob(f"predictions-*-{token}.parquet")), None)
    if closed is None:
        read = read_frames(path)
        if read is not None and read[1]:
            closed = _write(pa.Table.from_batches(read[1], read[0]), path.parent, token)
    path.unlink(missing_ok=True)
    return closed


def _write(nested: pa.Table, folder: Path, token: str) -> Path:
    table = flat_table(nested)
    ends = pc.min_max(table["answered_at"]).as_py()
    first, last = (int(ends[name].timestamp() * 1_000) * 1_000_000 for name in ("min", "max"))
    path = folder / f"predictions-{first:019d}-{last:019d}-{token}.parquet"
    temporary = folder / f"{token}.writing"
    text = [field.name for field in table.schema if pa.types.is_string(field.type) and field.name.startswith(INPUT)]
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            pq.write_table(
                table,
                file,
                row_group_size=_ROWS_PER_GROUP,
                use_dictionary=[*CONSTANTS, *text, "label", "trace_id", "digest"],
                write_statistics=["prediction_id", "answered_at"],
            )
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(folder)
    return path


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def close_abandoned(folder: Path) -> int:
    """Makes Parquet of what processes that have ended left open; how many files.

    Raises:
        OSError: one cannot be written; it stays as it is.
    """
    count = 0
    for path in sorted(folder.glob("predictions-*.open")):
        with locked(path) as is_ours:
            if is_ours:
                closed = close_file(path)
                count += closed is not None
                log.info("closed the records that an ended process left open: %s", path.name)
    return count


def keep_below(folder: Path, max_bytes: int) -> None:
    """Removes the oldest files that nobody writes until the others have fewer bytes.

    Raises:
        OSError: one cannot be removed.
    """
    sizes: dict[Path, int] = {}
    for file in record_files(folder):
        with suppress(FileNotFoundError):  # another replica may have removed it
            sizes[file.path] = file.path.stat().st_size
    total = sum(sizes.values())
    for path, size in sizes.items():
        if total <= max_bytes:
            return
        if path.suffix != ".open":
            path.unlink(missing_ok=True)
            total -= size
            log.info("removed the oldest prediction records: %s, %d bytes", path.name, size)
