"""Which contents of each source were seen, and when: one line of JSON each, added where a source has changed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcluster.data.catalog.records import Column, SourceRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenVersion:
    """One content of a source. `number` counts the versions of that source from 1."""

    name: str
    number: int
    seen_at: float
    """When it was first seen so, in seconds since the epoch."""
    sha256: str
    num_rows: int
    size_bytes: int
    place: str
    columns: tuple[Column, ...]

    def change_from(self, earlier: SeenVersion) -> str:
        """What differs, in words: rows, columns, place."""
        words = []
        if self.num_rows != earlier.num_rows:
            words.append(f"{self.num_rows - earlier.num_rows:+,} rows")
        ours, theirs = ({column.name: column.type for column in one.columns} for one in (self, earlier))
        words += [f"new column {name}" for name in ours if name not in theirs]
        words += [f"without column {name}" for name in theirs if name not in ours]
        words += [
            f"{name} is {kind}, was {theirs[name]}"
            for name, kind in ours.items()
            if name in theirs and theirs[name] != kind
        ]
        if self.place != earlier.place:
            words.append(f"from {self.place}")
        return ", ".join(words) or "values differ"


class CatalogFile:
    """The versions seen by one project, oldest first."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def versions(self, name: str | None = None) -> list[SeenVersion]:
        """Of one source, or of all. A line that a crash has cut short is passed over."""
        counts: dict[str, int] = {}
        found = []
        for value in self._lines():
            counts[value["name"]] = counts.get(value["name"], 0) + 1
            columns = tuple(Column(**column) for column in value.pop("columns"))
            found.append(SeenVersion(number=counts[value["name"]], columns=columns, **value))
        return [one for one in found if name in (None, one.name)]

    def note(self, records: Iterable[SourceRecord], *, now: float) -> dict[str, SeenVersion]:
        """The version that each of them is; written down where it is a new one."""
        import fcntl

        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            newest = {one.name: one for one in self.versions()}
            lines = [
                json.dumps(_line(record, now), ensure_ascii=False)
                for record in records
                if record.name not in newest or not _is_same(record, newest[record.name])
            ]
            if lines:
                # A line that was cut short must not swallow the next one.
                file.write(("".join(f"\n{line}" for line in lines) + "\n").encode())
        return {one.name: one for one in self.versions()}

    def _lines(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        found = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict) and value.keys() >= _FIELDS:
                found.append({field: value[field] for field in _FIELDS})
        return found


_FIELDS = {"name", "seen_at", "sha256", "num_rows", "size_bytes", "place", "columns"}


def _line(record: SourceRecord, now: float) -> dict[str, Any]:
    value = record.to_json()
    return {"seen_at": now, **{field: value[field] for field in _FIELDS if field != "seen_at"}}


def _is_same(record: SourceRecord, version: SeenVersion) -> bool:
    return (record.sha256, record.place, record.columns) == (version.sha256, version.place, version.columns)
