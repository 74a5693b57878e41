"""What was answered, to whom it can be traced: one line of JSON a request, written beside the answers.

A prediction id names its request; `#i` after it names row i. It holds the model and its version, and sorts by time, so
that an id alone leads to a version, and the record to the trial, the inputs and the answer.
"""

from __future__ import annotations

import atexit
import dataclasses
import json
import logging
import os
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

from mlcluster.errors import DataError
from mlcluster.serve.random_bytes import RandomBytes

log = logging.getLogger(__name__)

MAX_RECORDED_ROWS = 100
"""A request of more rows is recorded by its counts and its digest."""
_FLUSH_SECONDS = 1.0
_NUM_FILES = 16
"""Into which the bytes of a folder are parted."""
_BATCH = 32
"""Answers whose records are made at once: in a row, they cost half of what they cost one by one."""
_MAX_WAITING = 50_000
"""Records that wait for the disk; more are lost, and said to be, rather than held in memory."""
_ID = re.compile(
    r"^(?P<model>[A-Za-z0-9_-]+)\.(?P<version>[A-Za-z0-9_-]+)\.(?P<uid>[0-9a-f]{32})(?:#(?P<row>[0-9]{1,9}))?$"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionId:
    """The parts of a prediction id; `row` is None when it names the whole request."""

    model: str
    version: str
    uid: str
    row: int | None = None

    @property
    def request_id(self) -> str:
        """The id without its row: the one that records bear."""
        return f"{self.model}.{self.version}.{self.uid}"


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionRecord:
    """One answered request."""

    id: str
    model: str
    version: str
    trial_id: str
    received_at: str
    """ISO 8601, UTC."""
    num_rows: int
    latency_ms: float
    digest: str
    """SHA-256 of the request's body."""
    inputs: dict[str, list[Any]] | None
    """Raw values by column; None above `MAX_RECORDED_ROWS` rows."""
    outputs: dict[str, list[Any]] | None
    request_id: str | None = None
    """The client's own, or ours; None in records that were written before there were any."""
    trace_id: str | None = None
    """Of W3C Trace Context, 32 hexadecimal digits."""


MakeRecord = Callable[[], PredictionRecord]


class RecordSink(Protocol):
    """Where records go. `write` never fails and never waits for a disk; what it is given is called later, or never."""

    @property
    def num_lost(self) -> int:
        """Records that were taken and never kept."""
        ...

    def write(self, make: MakeRecord) -> None: ...

    def close(self) -> None: ...


class NoRecords:
    """Keeps nothing, and loses nothing that it was to keep."""

    num_lost = 0

    def write(self, make: MakeRecord) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class JsonlRecordSink:
    """Appends to files of this process in `folder`, readable by their owner alone, one after another.

    Lines reach the file within a second, and at `close`; a killed process loses at most that second. A full disk, or a
    folder that cannot be made, loses records, with a warning, rather than answers. The folder is kept below about
    `max_bytes`, with the records of all processes in it: the oldest file goes when a new one is begun.
    """

    def __init__(self, folder: Path, *, max_bytes: int = 2**30) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._path = self._new_path()
        self._waiting: deque[MakeRecord] = deque()
        self._lines: list[bytes] = []
        self._num_lines = 0
        self._lock, self._file_lock = threading.Lock(), threading.Lock()
        self._closed = threading.Event()
        self.num_lost = 0
        self._num_untold = 0
        """Of those, refused since the log was told of any."""
        self._thread: threading.Thread | None = None

    def write(self, make: MakeRecord) -> None:
        """Takes what makes the record, which is on disk within a second."""
        if self._num_lines >= _MAX_WAITING:
            self.num_lost += 1
            self._num_untold += 1
            return
        self._waiting.append(make)
        if self._closed.is_set():
            self.flush()
        elif len(self._waiting) >= _BATCH:
            # Here, and not in the thread: two that run Python wait for each other more than this takes.
            self._make()
        if self._thread is None and not self._closed.is_set():
            self._start()

    def _new_path(self) -> Path:
        return self._folder / f"predictions-{time.time_ns():019d}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._flush_each_second, name="prediction-records", daemon=True)
                self._thread.start()
                atexit.register(self.close)

    def _make(self) -> None:
        """Lines from what waits."""
        with self._lock:
            for _ in range(len(self._waiting)):
                try:
                    self._lines.append(_line(self._waiting.popleft()()))
                except Exception:  # the answer was given, whatever is wrong with its record
                    self.num_lost += 1
                    log.exception("lost a prediction record that could not be made")
            self._num_lines = len(self._lines)

    def flush(self) -> None:
        """All records so far, on disk."""
        with self._file_lock:
            self._make()
            with self._lock:
                lines, self._lines, self._num_lines = self._lines, [], 0
                num_untold, self._num_untold = self._num_untold, 0
            if num_untold:
                log.warning("lost %d prediction records: the disk is slower than the answers", num_untold)
            if lines:
                self._append(lines)

    def _append(self, lines: list[bytes]) -> None:
        """To the file of now; where it has become long, the next ones go into another, and the oldest make room."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                file.write(b"".join(lines))
                num_bytes = file.tell()
        except OSError as error:
            self.num_lost += len(lines)
            log.warning("lost %d prediction records: %s", len(lines), error)
            return
        if num_bytes >= self._max_bytes // _NUM_FILES:
            self._path = self._new_path()
            try:
                _keep_below(self._folder, self._max_bytes - num_bytes)
            except OSError as error:
                log.warning("the oldest prediction records cannot be removed: %s", error)

    def close(self) -> None:
        """Flushes and ends the thread; later records are written at once."""
        self._closed.set()
        self.flush()
        atexit.unregister(self.close)

    def _flush_each_second(self) -> None:
        while not self._closed.wait(_FLUSH_SECONDS):
            self.flush()


def _keep_below(folder: Path, max_bytes: int) -> None:
    """Removes the oldest files of records until the others have fewer bytes."""
    sizes: dict[Path, int] = {}
    for path in sorted(folder.glob("predictions-*.jsonl")):
        with suppress(FileNotFoundError):  # another replica may have removed it
            sizes[path] = path.stat().st_size
    total = sum(sizes.values())
    for path, size in sizes.items():
        if total <= max_bytes:
            return
        path.unlink(missing_ok=True)
        total -= size
        log.info("removed the oldest prediction records: %s, %d bytes", path.name, size)


def _line(record: PredictionRecord) -> bytes:
    try:
        return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:  # a lone surrogate, or a number of more than 64 bits
        return json.dumps(dataclasses.asdict(record), separators=(",", ":")).encode("ascii") + b"\n"


_VERSION_AND_VARIANT = (0x7 << 76) | (0b10 << 62)
_DRAWN = (0xFFF << 64) | (2**62 - 1)


class PredictionIds:
    """Fresh ids `<model>.<version>.<32 hex digits>`: milliseconds since 1970, then 74 random bits, as in UUID 7."""

    def __init__(self, model: str, version: str) -> None:
        self._start = f"{_word(model)}.{_word(version)}."
        self._random = RandomBytes()

    def next(self) -> str:
        milliseconds = time.time_ns() // 1_000_000
        drawn = int.from_bytes(self._random.take(10), "big")
        uid = (milliseconds << 80) | (drawn & _DRAWN) | _VERSION_AND_VARIANT
        return f"{self._start}{uid:032x}"


def new_prediction_id(model: str, version: str) -> str:
    """One fresh id; see `PredictionIds`."""
    return PredictionIds(model, version).next()


def parse_prediction_id(text: str) -> PredictionId:
    """The parts of an id, with or without `#row`.

    Raises:
        DataError: the text is no prediction id.
    """
    match = _ID.match(text)
    if match is None:
        raise DataError(f"prediction id = {text[:80]!r} is none; copy it from the x-prediction-id of an answer.")
    row = None if match["row"] is None else int(match["row"])
    return PredictionId(model=match["model"], version=match["version"], uid=match["uid"], row=row)


def read_records(folder: Path) -> Iterator[PredictionRecord]:
    """Every record in `folder`, oldest file first; a line that was cut short is none."""
    for path in sorted(folder.glob("predictions-*.jsonl")):
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.endswith("}\n"):
                    yield PredictionRecord(**json.loads(line))


def find_record(folder: Path, prediction_id: str) -> PredictionRecord | None:
    """The record of the request that the id (with or without `#row`) names, or None.

    Raises:
        DataError: the text is no prediction id.
    """
    wanted = parse_prediction_id(prediction_id).request_id
    # The id is the first member of its line, so most lines are told apart without parsing them.
    start = f'{{"id":"{wanted}",'
    for path in sorted(folder.glob("predictions-*.jsonl"), reverse=True):
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith(start) and line.endswith("}\n"):
                    return PredictionRecord(**json.loads(line))
    return None


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", text) or "_"
