"""What a command line says beside the project file."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_PORT = 8000


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """How a command is to be run; `fresh` starts anew where a run could be gone on with."""

    seed: int = 0
    port: int = DEFAULT_PORT
    fresh: bool = False
    name: str | None = None
    """Of the run, for it to be gone on with under; None is the newest of the same data and search."""
