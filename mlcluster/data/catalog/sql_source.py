"""The rows of a query, from SQLite or PostgreSQL through ADBC, as Arrow without a detour; nothing can be written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from mlcluster.data.catalog.cache import Fetched, SourceCache, write_rows
from mlcluster.data.files import Asked
from mlcluster.data.places import expanded, first_line, without_credentials
from mlcluster.errors import DataError

_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql://", "postgres://")
# Rows from which SQLite's driver tells the type of a column, for SQLite itself knows none.
_SQLITE_TYPE_ROWS = 65_536


def fetch_query(asked: Asked, sql: str, base: Path, cache: SourceCache) -> Fetched:
    """All rows of the query, in its order, kept as a file. `asked` is the data base.

    Raises:
        DataError: the driver is not installed, the data base does not answer, or the query is wrong.
    """
    url = expanded(asked.text, key=asked.key)

    def ask(_known: Fetched | None) -> Fetched:
        with cache.new_file() as path:
            try:
                with _reader(asked, url, sql, base) as reader:
                    sha256, _ = write_rows(_plain(reader), path)
            except (OSError, pa.ArrowException, _adbc_error()) as error:
                reason = first_line(error, secret=url)
                raise DataError(
                    f"{asked.key} = {asked.shown} cannot be read ({reason}); check the address and the query."
                ) from error
            size = path.stat().st_size
            cache.adopt(path, f"{sha256}.parquet")
        return Fetched(file=f"{sha256}.parquet", sha256=sha256, size_bytes=size)

    return cache.fetch(("sql", without_credentials(url), sql), ask)


@contextmanager
def _reader(asked: Asked, url: str, sql: str, base: Path) -> Iterator[pa.RecordBatchReader]:
    if url.startswith(_SQLITE):
        dbapi = _driver(asked, "sqlite")
        file = (base / Path(url.removeprefix(_SQLITE)).expanduser()).resolve()
        if not file.is_file():
            raise asked.error("names a file that is not there; the path is relative to the project file.")
        with dbapi.connect(f"file:{quote(file.as_posix())}?mode=ro") as connection, connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": _SQLITE_TYPE_ROWS})
            cursor.execute(sql)
            yield cursor.fetch_record_batch()
    elif url.startswith(_POSTGRES):
        dbapi = _driver(asked, "postgresql")
        with dbapi.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
            cursor.execute(sql)
            yield cursor.fetch_record_batch()
    else:
        raise asked.error("is no data base that can be read; use sqlite:///file.db or postgresql://.")


def _driver(asked: Asked, name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"adbc_driver_{name}.dbapi")
    except ImportError as error:
        raise asked.error("needs a driver that is not installed; run: pip install 'mlcluster[sql]'.") from error


def _adbc_error() -> type[Exception]:
    try:
        from adbc_driver_manager import Error
    except ImportError:
        return OSError
    found: type[Exception] = Error
    return found


def _plain(reader: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """In types that files and models know: PostgreSQL's numeric as double, its json and uuid as text."""
    fields = [pa.field(field.name, _plain_type(field.type)) for field in reader.schema]
    schema = pa.schema(fields)

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in reader:
            arrays = [_as(column, field.type) for column, field in zip(batch.columns, fields, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if not isinstance(kind, pa.BaseExtensionType):
        return kind
    if isinstance(kind, pa.OpaqueType) and kind.type_name == "numeric":
        return pa.float64()
    return pa.string()


def _as(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if not isinstance(column.type, pa.BaseExtensionType):
        return column
    if isinstance(column.type, pa.UuidType):
        return pa.array([None if value is None else str(value) for value in column.to_pylist()], kind)
    return column.storage.cast(kind)


def query_text(sql: str) -> str:
    """A query in one short line."""
    text = re.sub(r"\s+", " ", sql).strip()
    return text if len(text) <= 80 else text[:79] + "…"
