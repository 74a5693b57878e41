"""What is written down about a run, as plain values: the rooms fill it in, a tracker stores it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricPoint:
    """One value of a metric. `step` is what the metric's axis counts; `at` is seconds since the epoch."""

    name: str
    value: float
    step: int
    at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetRecord:
    """Data that a run has learned from, or a source of it. `context` says which, `kind` what it is kept in."""

    name: str
    digest: str
    source: str
    schema: Mapping[str, Any]
    profile: Mapping[str, Any]
    kind: str = "local"
    context: str = "training"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """One run, or one trial within it. `artifacts` maps a file name to its bytes."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[MetricPoint, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[str, bytes] = field(default_factory=dict)
    dataset: DatasetRecord | None = None
    sources: tuple[DatasetRecord, ...] = ()
    """What `dataset` was made from."""
    children: tuple[RunRecord, ...] = ()
    started_at: float | None = None
    is_failed: bool = False


class Tracker(Protocol):
    """Where runs are written down."""

    def begin(self, name: str) -> str:
        """Opens a run; gives its id."""

    def finish(self, run_id: str, record: RunRecord) -> None:
        """Writes everything about the run, its children included, and closes it."""

    def artifacts(self, name: str, *, tags: Mapping[str, str], max_runs: int) -> list[bytes]:
        """The artifact of that name of the newest runs that bear these tags, newest first, in any experiment.

        Runs whose artifact cannot be read are passed over.
        """


class MemoryTracker:
    """Keeps records in memory: for tests, and for those who want no tracking."""

    def __init__(self) -> None:
        self.runs: dict[str, RunRecord] = {}

    def begin(self, name: str) -> str:
        run_id = f"{name}-{len(self.runs)}"
        self.runs[run_id] = RunRecord(name=name)
        return run_id

    def finish(self, run_id: str, record: RunRecord) -> None:
        self.runs[run_id] = record

    def artifacts(self, name: str, *, tags: Mapping[str, str], max_runs: int) -> list[bytes]:
        bearing = [one for one in reversed(self.runs.values()) if tags.items() <= one.tags.items()]
        return [one.artifacts[name] for one in bearing[:max_runs] if name in one.artifacts]
