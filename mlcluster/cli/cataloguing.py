"""The catalog of one project: its sources opened, held against the clock, and their versions written down."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlcluster.cli.workspace import Workspace
from mlcluster.data import CatalogFile, DataProfile, SourceCache, SourceRecord
from mlcluster.data.catalog import (
    OpenSource,
    SeenVersion,
    Shelf,
    all_sources,
    check_name,
    open_main,
    open_named,
    stale_findings,
)
from mlcluster.data.gather import gather
from mlcluster.data.source import read_block
from mlcluster.errors import DataError
from mlcluster.spec import DataSpec, SourceSpec

_FIRST_ROWS = 3


@dataclass(frozen=True, kw_only=True)
class SourceStatus:
    """A source as it is now; where it cannot be read, `problem` says why and there is no record."""

    name: str
    asked: SourceSpec
    record: SourceRecord | None = None
    versions: tuple[SeenVersion, ...] = ()
    """Those that were seen, oldest first; the last one is what it is now, where it can be read."""
    age_seconds: float | None = None
    is_stale: bool = False
    problem: str | None = None
    first_rows: tuple[dict[str, Any], ...] = ()
    joins: tuple[str, ...] = ()
    """What the joins that it takes part in have come to."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; what is known of it even where it cannot be read."""
        record = {} if self.record is None else self.record.to_json()
        return {
            "name": self.name,
            "owner": self.asked.owner,
            "description": self.asked.description,
            **record,
            "age_seconds": self.age_seconds,
            "is_stale": self.is_stale,
            "problem": self.problem,
            "version_number": self.versions[-1].number if self.versions else None,
        }


class Catalogue:
    """The sources of a project. `cache` holds what is fetched, once for the length of a command."""

    def __init__(self, spec: DataSpec, *, folder: Path, workspace: Workspace) -> None:
        self._spec = spec
        self._folder = folder
        self._file = CatalogFile(workspace.catalog_file)
        self.cache = SourceCache(workspace.sources)
        self._shelf = Shelf(base=folder, cache=self.cache)

    def statuses(self) -> list[SourceStatus]:
        """All of them, in the order of the file; one that cannot be read says why."""
        found = []
        for name, asked in all_sources(self._spec).items():
            try:
                found.append(self._status(name, self._open(name)))
            except DataError as error:
                versions = tuple(self._file.versions(name))
                found.append(SourceStatus(name=name, asked=asked, versions=versions, problem=str(error)))
        return found

    def status(self, name: str) -> SourceStatus:
        """One of them, with its first rows and what its joins have come to.

        Raises:
            DataError: there is none of that name, or it cannot be read.
        """
        check_name(name, all_sources(self._spec))
        opened = self._open(name)
        block = read_block(opened.source.blocks[0], opened.source.schema).slice(0, _FIRST_ROWS)
        return replace(self._status(name, opened), first_rows=tuple(block.to_pylist()), joins=self._joins_of(name))

    def with_freshness(self, profile: DataProfile) -> DataProfile:
        """The profile with a warning for each stale source before its other findings; nothing is written down."""
        now = time.time()
        records = tuple(self._dated(record, self._file.versions(record.name)) for record in profile.sources)
        findings = (*stale_findings(records, now=now), *profile.findings)
        return replace(profile, sources=records, findings=findings)

    def note(self, records: Sequence[SourceRecord]) -> None:
        """Writes down the versions that these are."""
        self._file.note(records, now=time.time())

    def _open(self, name: str) -> OpenSource:
        if name in self._spec.sources:
            return open_named(name, self._spec.sources[name], self._shelf)
        return open_main(self._spec, self._shelf)

    def _status(self, name: str, opened: OpenSource) -> SourceStatus:
        now = time.time()
        self._file.note([opened.record], now=now)
        versions = tuple(self._file.versions(name))
        record = self._dated(opened.record, versions)
        return SourceStatus(
            name=name,
            asked=all_sources(self._spec)[name],
            record=record,
            versions=versions,
            age_seconds=record.age_seconds(now),
            is_stale=record.is_stale(now),
        )

    @staticmethod
    def _dated(record: SourceRecord, versions: Sequence[SeenVersion]) -> SourceRecord:
        """Where nothing says when it was written, as with a query, its age is that of what it holds."""
        if record.updated_at is not None or not versions or versions[-1].sha256 != record.sha256:
            return record
        return replace(record, modified_at=versions[-1].seen_at)

    def _joins_of(self, name: str) -> tuple[str, ...]:
        joins = self._spec.joins
        is_main = self._spec.source == name or name not in self._spec.sources
        if not any(is_main or join.source == name for join in joins):
            return ()
        try:
            reports = gather(self._spec, base=self._folder, cache=self.cache, is_lenient=True).joins
        except DataError as error:
            return (str(error),)
        return tuple(f"{report.sentence()}." for report in reports if is_main or report.source == name)
