"""The prediction log: answers on disk within a second, and in Parquet within minutes; nobody waits for it.

An answer leaves its values in flat lists. A thread makes a batch of columns of them, a second later or once there are
many, and appends it to an open file (`write_ahead.py`); a file that has become long or old becomes Parquet. The thread
is of this process: what must hold the interpreter, a few microseconds a request, would cost as much on its way to
another one (ADR 20).
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from mlcluster.serve.record_block import RecordBlock
from mlcluster.serve.record_files import close_abandoned, close_file, keep_below, open_path
from mlcluster.serve.records import Answered
from mlcluster.serve.write_ahead import WriteAheadFile

log = logging.getLogger(__name__)

_FLUSH_SECONDS = 1.0
_BLOCK_ROWS, _BLOCK_BYTES = 4096, 4 * 2**20
"""With so many the thread does not wait for the second to end."""
_MAX_WAITING, _MAX_WAITING_BYTES = 50_000, 64 * 2**20
"""Answers, and bytes of their requests, that wait for the disk; more are lost, and counted, rather than held."""
_NUM_FILES = 16
"""Into which the bytes of a folder are parted, at least."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rotation:
    """When a file is closed, whichever comes first."""

    max_bytes: int = 16 * 2**20
    """Of the open file; as Parquet it takes about two thirds."""
    max_seconds: float = 300.0


Watch = Callable[[pa.RecordBatch], None]


class PredictionLog:
    """Writes the answers of one model to files of this process in `folder`, readable by their owner alone.

    A killed process loses what it answered within the last second. A full disk, or a folder that cannot be made, loses
    records, which are counted, with a warning, rather than answers. The folder is kept below about `max_bytes`, with
    the files of all processes in it: the oldest go. `watch` sees each batch, before it is written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int = 2**30,
        rotation: Rotation | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        rotation = rotation or Rotation()
        self._file_bytes = min(rotation.max_bytes, max_bytes // _NUM_FILES)
        self._file_seconds = rotation.max_seconds
        self._watch = watch
        self._block: RecordBlock | None = None
        self._file: WriteAheadFile | None = None
        self._begun = 0.0
        self._lock, self._file_lock = threading.Lock(), threading.Lock()
        self._wake, self._closed = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self.num_lost = 0
        self._num_untold = 0
        """Of those, refused since the log was told of any."""

    def write(self, answered: Answered) -> None:
        """Takes the answer, which is on disk within a second."""
        with self._lock:  # a large request is answered beside the event loop
            block = self._block
            if block is None:
                block = self._block = RecordBlock(answered.layout)
            if block.num_requests >= _MAX_WAITING or block.num_bytes >= _MAX_WAITING_BYTES:
                self._num_untold += 1
                self.num_lost += 1
                return
            try:
                block.add(answered)
            except Exception:  # the answer was given, whatever is wrong with its record
                self.num_lost += 1
                log.exception("lost a prediction record that could not be made")
        if block.num_rows >= _BLOCK_ROWS or block.num_bytes >= _BLOCK_BYTES:
            self._wake.set()
        if self._closed.is_set():
            self.close()
        elif self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_on, name="prediction-log", daemon=True)
                self._thread.start()
                atexit.register(self.close)

    def _write_on(self) -> None:
        self.flush()
        self._tidy()
        while not self._closed.is_set():
            self._wake.wait(_FLUSH_SECONDS)
            self._wake.clear()
            self.flush()

    def flush(self) -> None:
        """All answers so far, on disk."""
        with self._file_lock:
            with self._lock:
                block, self._block = self._block, None
                num_untold, self._num_untold = self._num_untold, 0
            if num_untold:
                log.warning("lost %d prediction records: the disk is slower than the answers", num_untold)
            if block is not None and block.num_requests:
                self._append(block)
            if self._file is not None and self._is_full(self._file):
                self._close_file()

    def close(self) -> None:
        """All answers so far, as Parquet; later ones are written at once."""
        self._closed.set()
        self._wake.set()
        self.flush()
        with self._file_lock:
            self._close_file()
        atexit.unregister(self.close)

    def _append(self, block: RecordBlock) -> None:
        try:
            batch = block.batch()
            if self._watch is not None:
                self._watch(batch)
            if self._file is None:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._file, self._begun = WriteAheadFile(open_path(self._folder), batch.schema), time.monotonic()
            self._file.append(batch)
        except OSError as error:
            self.num_lost += block.num_requests
            log.warning("lost %d prediction records: %s", block.num_requests, error)
        except Exception:  # the answers were given, whatever is wrong with their records
            self.num_lost += block.num_requests
            log.exception("lost %d prediction records that could not be made", block.num_requests)

    def _is_full(self, file: WriteAheadFile) -> bool:
        return file.num_bytes >= self._file_bytes or time.monotonic() - self._begun >= self._file_seconds

    def _close_file(self) -> None:
        """What cannot become Parquet now stays as it is, for the next one that tidies up."""
        file, self._file = self._file, None
        if file is None:
            return
        try:
            close_file(file.path)
        except (OSError, pa.ArrowException) as error:
            log.warning("prediction records stay in %s: %s", file.path.name, error)
        file.close()
        self._tidy()

    def _tidy(self) -> None:
        """Closes what other processes left open, and makes room for the next file."""
        try:
            close_abandoned(self._folder)
            keep_below(self._folder, self._max_bytes - self._file_bytes)
        except (OSError, pa.ArrowException) as error:
            log.warning("the folder of prediction records cannot be tidied up: %s", error)
