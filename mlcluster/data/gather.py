"""From the `data:` section to one source of rows: what `source` names, with what `joins` bring to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcluster.data.catalog import OpenSource, Shelf, SourceCache, SourceRecord, open_main, open_named
from mlcluster.data.findings import Finding
from mlcluster.data.images import mark_images
from mlcluster.data.joins import JoinReport, join_sources
from mlcluster.data.source import Source
from mlcluster.spec import DataSpec, JoinSpec


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """The rows to work on, and where they are from. `source.files` are those of all sources."""

    source: Source
    records: tuple[SourceRecord, ...]
    """One for each source that was used, that of `data.source` first."""
    asked: tuple[JoinSpec, ...]
    joins: tuple[JoinReport, ...]
    """What each of `asked` has come to."""
    findings: tuple[Finding, ...]

    def to_manifest(self) -> dict[str, Any]:
        """For a snapshot: the sources, and each join as it was asked for and as it came out."""
        joins = zip(self.asked, self.joins, strict=True)
        return {
            "sources": [record.to_json() for record in self.records],
            "joins": [{"asked": asked.model_dump(mode="json"), **report.to_json()} for asked, report in joins],
        }


def gather(spec: DataSpec, *, base: Path, cache: SourceCache | None = None, is_lenient: bool = False) -> Gathered:
    """Opens what `spec` names, and does its joins in their order.

    What has to be fetched or joined is kept in `cache`, by default under `.mlcluster/sources` in `base`, which every
    machine of the engine must share. With `is_lenient` a low match rate is a finding and no error.

    Raises:
        DataError: a source cannot be read or is refused, or a join is not what the spec asks for.
    """
    shelf = Shelf(base=base, cache=cache or SourceCache(base / ".mlcluster" / "sources"))
    opened = open_main(spec, shelf)
    used: dict[str, OpenSource] = {opened.record.name: opened}
    source, reports, findings = opened.source, [], []
    for join in spec.joins:
        if join.source not in used:
            used[join.source] = open_named(join.source, spec.sources[join.source], shelf)
        source, report = join_sources(source, used[join.source].source, join, shelf.cache, is_lenient=is_lenient)
        reports.append(report)
        findings.append(report.finding(join))
    records = tuple(one.record for one in used.values())
    queries = (record.name for record in records if record.kind == "sql")
    findings += [_unordered(name) for name in queries if not _is_ordered(spec.sources[name].sql)]
    return Gathered(
        source=mark_images(source),
        records=records,
        asked=spec.joins,
        joins=tuple(reports),
        findings=tuple(findings),
    )


def _is_ordered(sql: str | None) -> bool:
    return re.search(r"\border\s+by\b", sql or "", re.IGNORECASE) is not None


def _unordered(name: str) -> Finding:
    message = (
        f"source {name} is a query without ORDER BY: the data base may give its rows in another order the next time, "
        "which is another hash and another split."
    )
    return Finding(kind="unordered_query", message=message, severity="info")
