"""A process that makes Parquet of the files that others have done with, on what they leave of the processor.

Parquet takes as long as all else that a record costs, and nobody waits for it. A thread of the answering process would
take the processor from the answers; this one gets it when nobody else wants it (`SCHED_IDLE`). There is one a folder,
which it has locked. It ends with the standard input that it was given, or when nothing was open for a minute.
"""

from __future__ import annotations

import logging
import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from mlcluster.serve.records.files import close_abandoned, keep_below
from mlcluster.serve.records.write_ahead import locked

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_IDLE_SECONDS = 60.0
_END_SECONDS = 30.0
_MAX_OPEN_FILES = 8
"""In a folder, of all who write there. More are a sign that there is no idle time, and then answers have to wait."""


class RecordCloser:
    """The process of one folder, as one of those who write there sees it."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._process: subprocess.Popen[bytes] | None = None

    def takes_more(self) -> bool:
        """Whether there is a process, of ours or of another's, for one file more; it is started where there is none."""
        return len([*self._folder.glob("predictions-*.open")]) <= _MAX_OPEN_FILES and self._is_there()

    def _is_there(self) -> bool:
        status = 0 if self._process is None else self._process.poll()
        if status is None:
            return True
        if status != 0:  # it said why; another one would fare no better
            return False
        try:
            with locked(self._folder) as is_ours:
                if not is_ours:
                    return True
            command = [sys.executable, "-P", "-m", __name__, str(self._folder), str(self._max_bytes)]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)  # noqa: S603
        except OSError as error:
            log.warning("no process can be started for prediction records: %s", error)
            return False
        return True

    def end(self) -> None:
        """Waits for what it is at."""
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main(folder: Path, max_bytes: int) -> None:
    """Closes files of `folder` until standard input ends, or nothing is open there for a minute."""
    _yield_processor()
    with locked(folder) as is_ours:
        if not is_ours:
            return
        open_at = time.monotonic()
        is_told = False
        while not is_told and time.monotonic() - open_at < _IDLE_SECONDS:
            is_told = bool(select.select([sys.stdin], [], [], _LOOK_SECONDS)[0])
            try:
                close_abandoned(folder)
                keep_below(folder, max_bytes)
            except (OSError, pa.ArrowException) as error:
                log.warning("prediction records stay in an open file: %s", error)
            if any(folder.glob("predictions-*.open")):
                open_at = time.monotonic()


def _yield_processor() -> None:
    os.nice(19)
    with suppress(OSError, AttributeError):  # where a system has no such class, or refuses it
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    main(Path(sys.argv[1]), int(sys.argv[2]))
