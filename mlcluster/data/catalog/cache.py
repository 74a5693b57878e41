"""Tables that do not lie in files, fetched once a command and kept as files under the hash of their content.

A block is read twice or more, by whoever works on it. What a query or a server answers may change in between, so it is
written down first, and blocks are read from there. A folder for all of it, which every node must share:

    content/<sha256>.parquet   whole or not there: written beside, then moved into place
    latest/<key>.json          what a place has answered last: the content's name, its ETag, its version
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlcluster.data.transform import dictionary_of

_ROWS = 65_536
"""Of a row group, however the rows arrived: the hash does not depend on it either."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """What a place has answered. `sha256` is of a file's bytes, or of a table's rows."""

    file: str
    """Its name under `content/`."""
    sha256: str
    size_bytes: int
    modified_at: float | None = None
    """Seconds since the epoch, where the place says so."""
    etag: str | None = None
    last_modified: str | None = None
    version: str | None = None
    """Of a Delta table: its id and version."""


class SourceCache:
    """The fetched tables of one project, for the length of one command: each place is asked once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._asked: dict[str, Fetched] = {}

    def fetch(self, what: tuple[str, ...], ask: Callable[[Fetched | None], Fetched]) -> Fetched:
        """What `ask` gives for the place that `what` names; it is told the last answer, where that is still there."""
        key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
        if key not in self._asked:
            with self._locked(key):
                latest = self.folder / "latest" / f"{key}.json"
                fetched = ask(self._known(latest))
                self._move(latest, lambda path: path.write_text(json.dumps(asdict(fetched)), encoding="utf-8"))
                self._asked[key] = fetched
        return self._asked[key]

    def path(self, fetched: Fetched) -> Path:
        """The file of it."""
        return self.content(fetched.file)

    def content(self, name: str) -> Path:
        """A file under `content/`, there or not."""
        return self.folder / "content" / name

    @contextmanager
    def new_file(self) -> Iterator[Path]:
        """A path to write to; what is not moved away from there is removed."""
        with tempfile.TemporaryDirectory(prefix=".new-", dir=self._made("content")) as folder:
            yield Path(folder) / "content"

    def adopt(self, file: Path, name: str) -> Path:
        """Moves a file that is finished to `content/<name>`."""
        file.chmod(0o644)  # workers of a cluster may run as somebody else
        return file.replace(self.content(name))

    def _known(self, latest: Path) -> Fetched | None:
        try:
            fetched = Fetched(**json.loads(latest.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return fetched if self.path(fetched).is_file() else None

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        import fcntl

        with (self._made("latest") / f"{key}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _move(self, target: Path, write: Callable[[Path], object]) -> None:
        with self.new_file() as path:
            write(path)
            path.replace(target)

    def _made(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def write_rows(reader: pa.RecordBatchReader, path: Path) -> tuple[str, int]:
    """Writes all rows to a Parquet file, in their order; gives the SHA-256 (hex) of schema and rows, and their number.

    The hash is of values: it does not depend on the versions of Arrow and Parquet, nor on how the rows came in.
    """
    digest = hashlib.sha256(json.dumps([[field.name, str(field.type)] for field in reader.schema]).encode())
    num_rows = 0
    with pq.ParquetWriter(path, reader.schema, compression="zstd") as writer:
        for table in _even(reader):
            for column in table.columns:
                digest.update(value_bytes(column))
            writer.write_table(table, row_group_size=_ROWS)
            num_rows += table.num_rows
    return digest.hexdigest(), num_rows


def _even(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    waiting = reader.schema.empty_table()
    for batch in reader:
        waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch])])
        while waiting.num_rows >= _ROWS:
            yield waiting.slice(0, _ROWS).combine_chunks()
            waiting = waiting.slice(_ROWS)
    if waiting.num_rows:
        yield waiting.combine_chunks()


def value_bytes(column: pa.ChunkedArray) -> bytes:
    """The values of a column as bytes that differ where the values do; what lies under a null does not count."""
    kind = column.type
    is_missing: bytes = column.is_null().to_numpy().tobytes()
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        column = column.cast(pa.int32() if pa.types.is_date32(kind) or pa.types.is_time32(kind) else pa.int64())
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return is_missing + bytes(pc.fill_null(column, 0).to_numpy().tobytes())
    if pa.types.is_nested(column.type):
        return is_missing + hashlib.sha256(repr(column.to_pylist()).encode()).digest()
    encoded = dictionary_of(column)
    words = [str(word).encode("utf-8", "surrogatepass") for word in encoded.dictionary.to_pylist()]
    digests = np.array([np.frombuffer(hashlib.sha256(word).digest(), np.uint64) for word in [*words, b""]])
    indices = pc.fill_null(encoded.indices, len(words)).to_numpy(zero_copy_only=False)
    return is_missing + bytes(digests[indices].tobytes())
