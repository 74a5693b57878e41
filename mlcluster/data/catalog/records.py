"""What the catalog knows of a source: where it lies, what it holds, whose it is, and how fresh it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mlcluster.data.findings import Finding

SourceKind = Literal["file", "http", "sql", "delta"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column, with its Arrow type."""

    name: str
    type: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceRecord:
    """One source as it is now. Times are seconds since the epoch."""

    name: str
    kind: SourceKind
    place: str
    """Path, URL or query, without credentials."""
    sha256: str
    """Of the file's bytes; of the list of files where there are several; of the rows of a query or Delta table."""
    num_files: int
    size_bytes: int
    num_rows: int
    columns: tuple[Column, ...]
    modified_at: float | None = None
    """When its files were written, or what the server or the Delta log says; None for a query."""
    newest_event_at: float | None = None
    """The newest value of the column that the project file names as the source's time."""
    fresh_within_seconds: float | None = None
    owner: str | None = None
    description: str | None = None
    version: int | None = None
    """Of a Delta table."""

    @property
    def updated_at(self) -> float | None:
        """What its age counts from: the newest event, where there is a time column, else when it was written."""
        return self.modified_at if self.newest_event_at is None else self.newest_event_at

    def age_seconds(self, now: float) -> float | None:
        """None where nothing says when it was written."""
        return None if self.updated_at is None else max(0.0, now - self.updated_at)

    def is_stale(self, now: float) -> bool:
        """Whether it is older than it may be."""
        age = self.age_seconds(now)
        return age is not None and self.fresh_within_seconds is not None and age > self.fresh_within_seconds

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SourceRecord:
        return cls(**{**value, "columns": tuple(Column(**column) for column in value["columns"])})


def stale_findings(records: tuple[SourceRecord, ...], *, now: float) -> list[Finding]:
    """One finding for each source that is older than it may be."""
    found = []
    for record in records:
        age = record.age_seconds(now)
        if age is None or not record.is_stale(now):
            continue
        assert record.fresh_within_seconds is not None
        since = "its newest event" if record.newest_event_at is not None else "its last change"
        whom = f"; ask {record.owner}" if record.owner else ""
        message = (
            f"source {record.name} is stale: {span_text(age)} since {since}, where data.sources.{record.name}."
            f"fresh_within allows {span_text(record.fresh_within_seconds)}{whom}."
        )
        found.append(Finding(kind="stale_source", message=message, value=age))
    return found


def span_text(seconds: float) -> str:
    """A time span in the largest unit of which there are two or more: `3 d`, `36 h`, `5 min`."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
