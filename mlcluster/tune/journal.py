"""The study's memory: what was decided and reported, in order, one JSON object a line.

Ray Tune's own snapshots are up to ten seconds old and leave the scheduler out. The policy is deterministic, so
replaying this file through it gives back rungs, cost model and all, at the very report at which the driver died.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlcluster.cost.line_file import cut_torn_line
from mlcluster.errors import ClusterError

EventKind = Literal["begin", "line", "unline", "start", "report", "lost", "failed", "decision", "interrupted", "end"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One line of a journal."""

    kind: EventKind
    at: float
    """Seconds since the epoch."""
    data: Mapping[str, Any]


class Journal:
    """Appends events to a file. What was appended outlives this process, and once `sync` is through, the machine.

    A write through to the disk takes milliseconds, several to a trial: so it is made once for all that came since the
    last one, before any of it is acted on.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.past = tuple(read_journal(path)) if path.exists() else ()
        if path.exists():
            cut_torn_line(path)
        self._file = path.open("ab")
        self._is_on_disk = True
        path.chmod(0o600)

    def append(self, event: Event) -> None:
        """Hands an event to the operating system; it must not be acted on before `sync`."""
        line = json.dumps({"kind": event.kind, "at": event.at, **event.data})
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        self._is_on_disk = False

    def sync(self) -> None:
        """Returns once all that was appended is on disk."""
        if not self._is_on_disk:
            os.fsync(self._file.fileno())
            self._is_on_disk = True

    def close(self) -> None:
        self._file.close()


def read_journal(path: Path) -> Iterator[Event]:
    """The events of a journal, oldest first, whether its study has ended or not. A torn last line was never acted on.

    Raises:
        ClusterError: a line before the last is no journal entry.
    """
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            record = json.loads(line)
            yield Event(kind=record.pop("kind"), at=record.pop("at"), data=record)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ClusterError(
                f"{path.name}:{number} is no journal entry; restore the file from a backup, or start a new run."
            ) from error
