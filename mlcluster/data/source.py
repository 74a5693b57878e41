"""The raw data: which files it is, what they hold, and how one block of them is read.

A block is one row group of a Parquet file, or one whole CSV or JSON file. Blocks stand in the order of the sorted
paths, which gives every row of the source a number that no engine and no number of workers can change.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from mlcluster.data.files import Asked, Format, Location, find_files, format_of, locate, short_names
from mlcluster.data.formats import common_schema, read_text
from mlcluster.data.places import first_line
from mlcluster.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """One file, by name and content. `name` is as short as tells the files of one source apart."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """What one task reads. `root` is a URI for a remote file system, and None for the local one."""

    index: int
    root: str | None
    path: str
    format: Format
    row_group: int | None


@dataclass(frozen=True, kw_only=True)
class Source:
    """Everything that is known before a row is read. `schema` has no dictionary types."""

    text: str
    files: tuple[SourceFile, ...]
    blocks: tuple[Block, ...]
    schema: pa.Schema
    num_rows: int
    modified_at: float | None = None
    """When the newest file was written, in seconds since the epoch; None where nothing says so."""

    @property
    def name(self) -> str:
        """A short name for people: `adult` for `data/adult.parquet`."""
        stem = PurePosixPath(re.sub(r"[*?\[].*$", "", self.text)).name.split(".")[0]
        return stem.strip("-_ ") or "data"

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over the names and contents of all files."""
        listed = "\n".join(f"{file.sha256} {file.name}" for file in self.files)
        return hashlib.sha256(listed.encode()).hexdigest()

    @property
    def label(self) -> str:
        """How messages call it: the file, or the whole source when there are more."""
        return self.files[0].name if len(self.files) == 1 else self.text


def read_source(text: str, *, base: Path, key: str = "data.source", allowed: Sequence[str] = ()) -> Source:
    """The files, blocks and schema of a path, directory, glob or URI; relative paths start at `base`.

    `key` is what messages call it. Where `allowed` is given, a file whose SHA-256 is not in it is refused before
    anything is read from it.

    Raises:
        DataError: nothing is there, a format is unknown, a file cannot be read or is refused, or there are no rows.
    """
    asked = Asked(key=key, text=text)
    location = locate(asked, base)
    try:
        paths = find_files(asked, location)
        files = tuple(_hashed(location, each, name) for each, name in zip(paths, short_names(paths), strict=True))
        refuse_unlisted(asked.key, files, allowed)
        parts = [_FilePart.read(location.filesystem, each) for each in paths]
        modified_at = _newest(location, paths)
    except (OSError, pa.ArrowException, UnicodeError, ValueError) as error:
        reason = first_line(error, secret=location.root or "")
        raise asked.error(f"cannot be read ({reason}); check the file and its format.") from error
    schema = common_schema([part.schema for part in parts], asked)
    descriptors = [(part, group) for part in parts for group in part.row_groups]
    if not descriptors or not schema.names:
        raise asked.error("holds no rows; point it at a table with rows.")
    blocks = tuple(
        Block(index=index, root=location.root, path=part.path, format=part.format, row_group=group)
        for index, (part, group) in enumerate(descriptors)
    )
    num_rows = sum(part.num_rows for part in parts)
    return Source(
        text=asked.shown, files=files, blocks=blocks, schema=schema, num_rows=num_rows, modified_at=modified_at
    )


def refuse_unlisted(key: str, files: Sequence[SourceFile], allowed: Sequence[str]) -> None:
    """Raises DataError for the first file whose hash is not in the list; an empty list allows all."""
    for file in files:
        if allowed and file.sha256 not in allowed:
            listed = ", ".join(allowed)
            raise DataError(
                f"{key}.sha256 = {listed} does not let in {file.name}, whose SHA-256 is {file.sha256}; where it is "
                f"to be trusted, write that there, or give it to one command: --set {key}.sha256={file.sha256}."
            )


def read_block(block: Block, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """The rows of one block in the types of `schema`; only `columns` when given, in that order.

    Raises:
        DataError: the file has changed or cannot be read.
    """
    filesystem = fs.LocalFileSystem() if block.root is None else fs.FileSystem.from_uri(block.root)[0]
    names = schema.names if columns is None else columns
    try:
        if block.format == "parquet":
            with filesystem.open_input_file(block.path) as stream:
                file = pq.ParquetFile(stream)
                table = file.read_row_group(block.row_group, [n for n in names if n in file.schema_arrow.names])
        else:
            table = read_text(filesystem, block.path, block.format, schema)
        arrays = [_as_type(table, schema.field(name)) for name in names]
    except (OSError, pa.ArrowException, UnicodeError, ValueError) as error:
        reason = first_line(error, secret=block.root or "")
        raise DataError(f"data.source = {block.path} cannot be read ({reason}); check the file.") from error
    return pa.Table.from_arrays(arrays, schema=pa.schema([schema.field(name) for name in names]))


@dataclass(frozen=True, kw_only=True)
class _FilePart:
    path: str
    format: Format
    schema: pa.Schema
    row_groups: list[int | None]
    num_rows: int

    @classmethod
    def read(cls, filesystem: fs.FileSystem, path: str) -> _FilePart:
        format_ = format_of(path)
        assert format_ is not None, "find_files gives no others"
        if format_ == "parquet":
            with filesystem.open_input_file(path) as stream:
                file = pq.ParquetFile(stream)
                counts = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
                groups: list[int | None] = [index for index, count in enumerate(counts) if count]
                schema = file.schema_arrow
                return cls(path=path, format=format_, schema=schema, row_groups=groups, num_rows=sum(counts))
        table = read_text(filesystem, path, format_, None)
        groups = [None] if table.num_rows else []
        return cls(path=path, format=format_, schema=table.schema, row_groups=groups, num_rows=table.num_rows)


def _as_type(table: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    if field.name not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, field.type)])
    column = table.column(field.name)
    return column if column.type == field.type else column.cast(field.type)


def _hashed(location: Location, path: str, name: str) -> SourceFile:
    digest, size = hashlib.sha256(), 0
    # compression=None: the hash is of the file as it lies there, not of what a .gz unpacks to.
    with location.filesystem.open_input_stream(path, compression=None) as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    return SourceFile(name=name, size_bytes=size, sha256=digest.hexdigest())


def _newest(location: Location, paths: list[str]) -> float | None:
    written = [info.mtime_ns for info in location.filesystem.get_file_info(paths) if info.mtime_ns]
    return max(written) / 1e9 if written else None
