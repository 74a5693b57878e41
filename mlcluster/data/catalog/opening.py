"""From a name or path in the project file to a source whose blocks can be read, whatever it is kept in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from mlcluster.data.catalog.cache import Fetched, SourceCache
from mlcluster.data.catalog.delta_source import fetch_version, is_delta, split_version
from mlcluster.data.catalog.http_source import HttpLimits, fetch_file, file_name
from mlcluster.data.catalog.records import Column, SourceKind, SourceRecord
from mlcluster.data.catalog.sql_source import fetch_query, query_text
from mlcluster.data.conform import nearest_name
from mlcluster.data.files import Asked
from mlcluster.data.source import Source, SourceFile, read_block, read_source, refuse_unlisted
from mlcluster.data.split import time_values
from mlcluster.errors import DataError
from mlcluster.spec import DataSpec, SourceSpec


@dataclass(frozen=True, kw_only=True)
class OpenSource:
    """A source to read blocks from, and what the catalog knows of it."""

    source: Source
    record: SourceRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelf:
    """Where sources are opened: relative paths start at `base`, and what is fetched is kept in `cache`."""

    base: Path
    cache: SourceCache


def all_sources(spec: DataSpec) -> dict[str, SourceSpec]:
    """The named sources, and before them `data.source` under a short name of its own where it is a path."""
    if spec.source in spec.sources:
        return dict(spec.sources)
    own = SourceSpec(path=spec.source)
    name = _name_of(spec.source)
    while name in spec.sources:
        name += "_"
    return {name: own, **spec.sources}


def open_main(spec: DataSpec, shelf: Shelf) -> OpenSource:
    """What `data.source` names: a source, or a path.

    Raises:
        DataError: it cannot be read, or is refused.
    """
    if spec.source in spec.sources:
        return open_named(spec.source, spec.sources[spec.source], shelf)
    name, own = next(iter(all_sources(spec).items()))
    try:
        return _open("data.source", name, own, shelf)
    except DataError as error:
        near = nearest_name(spec.source, spec.sources)
        if near is not None and "matches no file" in str(error):
            raise DataError(f"data.source = {spec.source} is no source and no file; did you mean {near}?") from error
        raise


def open_named(name: str, spec: SourceSpec, shelf: Shelf) -> OpenSource:
    """A source of `data.sources`; its files are called by its name.

    Raises:
        DataError: it cannot be read, or its content is not on its list of hashes.
    """
    opened = _open(f"data.sources.{name}", name, spec, shelf)
    return replace(opened, source=replace(opened.source, text=name))


def _open(key: str, name: str, spec: SourceSpec, shelf: Shelf) -> OpenSource:
    if spec.sql is not None:
        assert spec.url is not None
        fetched = fetch_query(Asked(key=key, text=spec.url), spec.sql, shelf.base, shelf.cache)
        source = _of_content(key, name, fetched, spec, shelf)
        return _opened(name, "sql", spec, source, place=f"{source.text}: {query_text(spec.sql)}")
    assert spec.path is not None
    asked = Asked(key=key, text=spec.path)
    if spec.path.startswith(("http://", "https://")):
        limits = HttpLimits(max_bytes=spec.max_mb * 1e6, allowed=spec.sha256)
        fetched = fetch_file(asked, limits, shelf.cache)
        source = _of_content(key, file_name(asked), fetched, spec, shelf)
        return _opened(name, "http", spec, source, place=asked.shown)
    path, version = split_version(spec.path, spec.version)
    table = Asked(key=key, text=path)
    if is_delta(table, shelf.base):
        fetched = fetch_version(table, version, shelf.base, shelf.cache)
        source = _of_content(key, name, fetched, spec, shelf)
        return _opened(name, "delta", spec, source, place=table.shown, version=int(str(fetched.version).split("@")[1]))
    if version is not None and spec.version is not None:
        raise asked.error("has a version, and is no Delta table; remove the version.")
    source = read_source(spec.path, base=shelf.base, key=key, allowed=spec.sha256)
    return _opened(name, "file", spec, source, place=source.text)


def _of_content(key: str, name: str, fetched: Fetched, spec: SourceSpec, shelf: Shelf) -> Source:
    """A fetched file as the source; its one file has the name, size and hash of what was fetched."""
    file = SourceFile(name=name, size_bytes=fetched.size_bytes, sha256=fetched.sha256)
    refuse_unlisted(key, [file], spec.sha256)
    shown = Asked(key=key, text=spec.path or spec.url or "").shown
    try:
        source = read_source(str(shelf.cache.path(fetched).resolve()), base=shelf.base, key=key)
    except DataError as error:
        raise DataError(str(error).replace(str(shelf.cache.path(fetched).resolve()), shown)) from error
    # Rows of a query are kept as a file of our own making, whose bytes mean nothing to anybody else.
    whole = source.files[0].blake3 if source.files[0].sha256 == file.sha256 else None
    return replace(source, text=shown, files=(replace(file, blake3=whole),), modified_at=fetched.modified_at)


def _opened(
    name: str, kind: SourceKind, spec: SourceSpec, source: Source, *, place: str, version: int | None = None
) -> OpenSource:
    record = SourceRecord(
        name=name,
        kind=kind,
        place=place,
        sha256=source.files[0].sha256 if len(source.files) == 1 else source.digest,
        num_files=len(source.files),
        size_bytes=sum(file.size_bytes for file in source.files),
        num_rows=source.num_rows,
        columns=tuple(Column(name=field.name, type=str(field.type)) for field in source.schema),
        modified_at=source.modified_at,
        newest_event_at=None if spec.time is None else _newest_event(name, spec.time, source),
        fresh_within_seconds=spec.fresh_within_seconds,
        owner=spec.owner,
        description=spec.description,
        version=version,
    )
    return OpenSource(source=source, record=record)


def _newest_event(name: str, column: str, source: Source) -> float:
    """The newest value of the time column, in seconds since the epoch; a number is taken to be that already."""
    if column not in source.schema.names:
        near = nearest_name(column, source.schema.names)
        fix = f"did you mean {near}?" if near else f"use one of {', '.join(source.schema.names[:12])}."
        raise DataError(f"data.sources.{name}.time = {column} is no column of it; {fix}")
    kind = source.schema.field(column).type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    newest = -np.inf
    for block in source.blocks:
        times = time_values(read_block(block, source.schema, [column]).column(column), column)
        if not np.isnan(times).all():
            newest = max(newest, float(np.nanmax(times)))
    if not np.isfinite(newest):
        raise DataError(f"data.sources.{name}.time = {column} is missing in every row; name a column that is filled.")
    return newest if is_number else newest / 1e6


def _name_of(text: str) -> str:
    return Source(text=Asked(key="", text=text).shown, files=(), blocks=(), schema=pa.schema([]), num_rows=0).name


def check_name(name: str, sources: Mapping[str, SourceSpec]) -> None:
    """Raises DataError where no source has that name."""
    if name not in sources:
        near = nearest_name(name, sources)
        fix = f"did you mean {near}?" if near else f"use one of {', '.join(sources)}."
        raise DataError(f"NAME = {name} is no source of this project; {fix}")
