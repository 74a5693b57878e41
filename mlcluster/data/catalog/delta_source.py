"""A Delta Lake table at one version. Its folder also holds files of other versions: only its log says which are its."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

import pyarrow as pa
from pyarrow import fs

from mlcluster.data.catalog.cache import Fetched, SourceCache, write_rows
from mlcluster.data.files import Asked, locate
from mlcluster.data.places import first_line
from mlcluster.errors import DataError, MlclusterError

_AT_VERSION = re.compile(r"^(?P<path>.+)@(?P<version>\d+)$")


def split_version(text: str, version: int | None) -> tuple[str, int | None]:
    """Path and version of `path@12`; the version that is given apart comes first."""
    match = _AT_VERSION.match(text)
    if match is None:
        return text, version
    return match["path"], int(match["version"]) if version is None else version


def is_delta(asked: Asked, base: Path) -> bool:
    """Whether a Delta table lies there."""
    try:
        location = locate(asked, base)
        log = location.filesystem.get_file_info(f"{location.path.rstrip('/')}/_delta_log")
    except (OSError, MlclusterError):  # whoever reads it says what is wrong
        return False
    return bool(log.type == fs.FileType.Directory)


def fetch_version(asked: Asked, version: int | None, base: Path, cache: SourceCache) -> Fetched:
    """The rows of the table at `version`, or at its current one; in the order of its files' names.

    Raises:
        DataError: the package is not installed, there is no such version, or it cannot be read.
    """
    table, reasons = _opened(asked, version, base)
    identity = f"{table.metadata().id}@{table.version()}"

    def ask(known: Fetched | None) -> Fetched:
        if known is not None and known.version == identity:
            return known
        with cache.new_file() as path:
            try:
                sha256, _ = write_rows(_rows(table), path)
                written_at = _written_at(table)
            except reasons as error:
                raise asked.error(f"cannot be read ({first_line(error)}); check the table.") from error
            size = path.stat().st_size
            cache.adopt(path, f"{sha256}.parquet")
        return Fetched(
            file=f"{sha256}.parquet", sha256=sha256, size_bytes=size, modified_at=written_at, version=identity
        )

    return cache.fetch(("delta", asked.shown, str(version)), ask)


def _opened(asked: Asked, version: int | None, base: Path) -> tuple[Any, tuple[type[Exception], ...]]:
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError
    except ImportError as error:
        raise asked.error("is a Delta table, and deltalake is missing; run: pip install 'mlcluster[delta]'.") from error
    location = locate(asked, base)
    reasons = (DeltaError, OSError, pa.ArrowException, ValueError)
    try:
        place, options = (location.path, None) if location.root is None else _store(location.root)
        return DeltaTable(place, version=version, storage_options=options), reasons
    except reasons as error:
        shown = "" if version is None else f" at version {version}"
        raise DataError(
            f"{asked.key} = {asked.shown} has no Delta table{shown} that can be opened ({first_line(error)}); "
            "check the path and the version."
        ) from error


def _store(root: str) -> tuple[str, dict[str, str]]:
    """An object store's URI without its options, and these in the words of the Delta library."""
    parts = urlsplit(root)
    given = dict(parse_qsl(parts.query))
    options = {"AWS_REGION": given["region"]} if "region" in given else {}
    if "endpoint_override" in given:
        scheme = given.get("scheme", "https")
        options |= {"AWS_ENDPOINT_URL": f"{scheme}://{given['endpoint_override']}"}
        options |= {"AWS_ALLOW_HTTP": "true"} if scheme == "http" else {}
    if parts.username and parts.password:
        options |= {"AWS_ACCESS_KEY_ID": unquote(parts.username), "AWS_SECRET_ACCESS_KEY": unquote(parts.password)}
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="")), options


def _rows(table: Any) -> pa.RecordBatchReader:
    dataset = table.to_pyarrow_dataset()

    def batches() -> Iterator[pa.RecordBatch]:
        # The dataset's own order is that of the log, which a compaction or a checkpoint may change.
        for fragment in sorted(dataset.get_fragments(), key=lambda one: str(one.path)):
            yield from fragment.to_batches(schema=dataset.schema)

    return pa.RecordBatchReader.from_batches(dataset.schema, batches())


def _written_at(table: Any) -> float | None:
    last = table.history(1)
    return last[0]["timestamp"] / 1000 if last and "timestamp" in last[0] else None
