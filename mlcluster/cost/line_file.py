"""Files of JSON lines that outlive the process which writes them: one writer at a time, a torn last line is cut off.

A line that was torn was never acted on, so nothing is lost with it.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import BinaryIO

from mlcluster.errors import ClusterError


def open_locked(path: Path) -> BinaryIO:
    """The file, made where it is missing, to append to; its owner's alone, and this process's as long as it is open.

    Raises:
        ClusterError: another process has it open.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ClusterError(f"{path.name} is in use by another process; wait for that run to end.") from error
    path.chmod(0o600)
    return file


def cut_torn_line(path: Path) -> None:
    """Shortens the file to its last whole line."""
    num_bytes = path.read_bytes().rfind(b"\n") + 1
    if num_bytes < path.stat().st_size:
        os.truncate(path, num_bytes)
