"""The answers of one model on their way to the disk: a block that is being gathered, and a file that is open."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from mlcluster.serve.records.block import RecordBlock
from mlcluster.serve.records.files import close_file, open_path
from mlcluster.serve.records.layout import RecordLayout
from mlcluster.serve.records.write_ahead import WriteAheadFile


@dataclass(frozen=True, kw_only=True, slots=True)
class Rotation:
    """When a file is closed, whichever comes first."""

    max_bytes: int = 16 * 2**20
    """Of the open file; as Parquet it takes about two thirds."""
    max_seconds: float = 300.0


class RecordStream:
    """One model's. Its block is the caller's to guard, as is its file, each for itself."""

    def __init__(self, layout: RecordLayout, folder: Path, rotation: Rotation) -> None:
        self.layout = layout
        self.block = RecordBlock(layout)
        self._folder = folder
        self._rotation = rotation
        self._file: WriteAheadFile | None = None
        self._begun = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is on its way."""
        return self._file is None and not self.block.num_requests

    def take(self) -> RecordBlock:
        """What was gathered; the next answers go into another block."""
        block, self.block = self.block, RecordBlock(self.layout)
        return block

    def append(self, block: RecordBlock) -> None:
        """Raises OSError where there is no room; nothing of the block is kept then."""
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file, self._begun = WriteAheadFile(open_path(self._folder), self.layout.schema), time.monotonic()
        self._file.append(block.frame())

    @property
    def is_full(self) -> bool:
        """Whether its file has become long or old."""
        if self._file is None:
            return False
        is_old = time.monotonic() - self._begun >= self._rotation.max_seconds
        return is_old or self._file.num_bytes >= self._rotation.max_bytes

    @property
    def num_bytes(self) -> int:
        """Of the open file."""
        return 0 if self._file is None else self._file.num_bytes

    def let_go(self) -> None:
        """Leaves the open file to whoever looks for those that nobody writes."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def close(self) -> None:
        """Makes Parquet of the open file, if there is one.

        Raises:
            OSError, pa.ArrowException: it cannot be made now; the file stays for whoever tidies up next.
        """
        file, self._file = self._file, None
        if file is not None:
            try:
                close_file(file.path)
            finally:
                file.close()
