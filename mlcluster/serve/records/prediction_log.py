"""The prediction log: answers on disk within a second, and in Parquet within minutes; nobody waits for it.

An answer leaves its values packed. A thread appends those of many answers, a second later or as soon as there are
many, to an open file (`write_ahead.py`). One that has become long or old becomes Parquet: here if it is small, else in
another process, which takes what time the processor has left (`closing.py`).
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from mlcluster.serve.records.answered import Answered
from mlcluster.serve.records.block import RecordBlock
from mlcluster.serve.records.closing import RecordCloser
from mlcluster.serve.records.files import close_abandoned, keep_below
from mlcluster.serve.records.layout import RecordLayout
from mlcluster.serve.records.stream import RecordStream, Rotation

log = logging.getLogger(__name__)

_FLUSH_SECONDS = 1.0
_BLOCK_ROWS, _BLOCK_BYTES = 4096, 4 * 2**20
"""With so many the thread does not wait for the second to end."""
_MAX_WAITING, _MAX_WAITING_BYTES = 50_000, 64 * 2**20
"""Answers of a model, and bytes of their requests, that wait for the disk; more are lost, and counted."""
_NUM_FILES = 16
"""Into which the bytes of a folder are parted, at least."""
_SMALL_BYTES = 2**20
"""A file up to here becomes Parquet in some milliseconds, for which no process need be started."""
Watch = Callable[[RecordLayout, RecordBlock], None]


class PredictionLog:
    """Writes answers to files of this process in `folder`, readable by their owner alone; each model has its own.

    A killed process loses what it answered within the last second. A full disk, or a folder that cannot be made, loses
    records, which are counted, with a warning, rather than answers. The folder is kept below about `max_bytes`, with
    the files of all processes in it: the oldest go. `watch` sees each block, before it is written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int = 2**30,
        rotation: Rotation | None = None,
        watch: Watch | None = None,
    ) -> None:
        rotation = rotation or Rotation()
        self._folder = folder
        self._max_bytes = max_bytes
        self._rotation = replace(rotation, max_bytes=min(rotation.max_bytes, max_bytes // _NUM_FILES))
        self._watch = watch
        self._closer = RecordCloser(folder, max_bytes=self._max_bytes - self._rotation.max_bytes)
        self._streams: dict[RecordLayout, RecordStream] = {}
        self._lock, self._file_lock = threading.Lock(), threading.Lock()
        """Of what is gathered, and of files."""
        self._wake, self._closed = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self.num_lost = 0
        self._num_untold = 0
        """Of those, refused since the log was told of any."""

    def write(self, answered: Answered) -> None:
        """Takes the answer, which is on disk within a second."""
        with self._lock:  # a large request is answered beside the event loop
            stream = self._streams.get(answered.layout)
            if stream is None:
                stream = RecordStream(answered.layout, self._folder, self._rotation)
                self._streams[answered.layout] = stream
            block = stream.block
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
        self._flush(lambda stream: stream.is_full)

    def close(self) -> None:
        """All answers so far, as Parquet; later ones are written at once."""
        self._closed.set()
        self._wake.set()
        self._closer.end()
        self._flush(lambda _: True)
        with self._file_lock:
            self._tidy()  # what the process that closes files has not come to
        atexit.unregister(self.close)

    def _flush(self, is_to_close: Callable[[RecordStream], bool]) -> None:
        with self._file_lock:
            with self._lock:
                taken = [(stream, stream.take()) for stream in self._streams.values()]
                num_untold, self._num_untold = self._num_untold, 0
            if num_untold:
                log.warning("lost %d prediction records: the disk is slower than the answers", num_untold)
            for stream, block in taken:
                if block.num_requests:
                    self._append(stream, block)
                if is_to_close(stream):
                    self._close(stream)

    def _append(self, stream: RecordStream, block: RecordBlock) -> None:
        try:
            if self._watch is not None:
                self._watch(stream.layout, block)
            stream.append(block)
        except OSError as error:
            self._lose(block.num_requests)
            log.warning("lost %d prediction records: %s", block.num_requests, error)
        except Exception:  # the answers were given, whatever is wrong with their records
            self._lose(block.num_requests)
            log.exception("lost %d prediction records that could not be made", block.num_requests)

    def _lose(self, count: int) -> None:
        with self._lock:
            self.num_lost += count

    def _close(self, stream: RecordStream) -> None:
        is_left = stream.num_bytes > _SMALL_BYTES and not self._closed.is_set() and self._closer.takes_more()
        try:
            if is_left:
                stream.let_go()
            else:
                stream.close()
        except (OSError, pa.ArrowException) as error:
            log.warning("prediction records stay in an open file: %s", error)
        with self._lock:
            if stream.is_idle:  # its model may have been put away
                self._streams.pop(stream.layout, None)
        if not is_left:
            self._tidy()

    def _tidy(self) -> None:
        """Closes what other processes left open, and makes room for the next file."""
        try:
            close_abandoned(self._folder)
            keep_below(self._folder, self._max_bytes - self._rotation.max_bytes)
        except (OSError, pa.ArrowException) as error:
            log.warning("the folder of prediction records cannot be tidied up: %s", error)
