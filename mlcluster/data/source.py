"""The raw data: which files it is, what they hold, and how one block of them is read.

A block is one row group of a Parquet file, or one whole CSV or JSON file. Blocks stand in the order of the sorted
paths, which gives every row of the source a number that no engine and no number of workers can change.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from blake3 import blake3
from pyarrow import fs

from mlcluster.data.files import Asked, Format, Location, find_files, format_of, locate, short_names
from mlcluster.data.footers import footer
from mlcluster.data.formats import bytes_of, common_schema, plain_type, read_text
from mlcluster.data.places import first_line
from mlcluster.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """One file, by name and content. `name` is as short as tells the files of one source apart."""

    name: str
    size_bytes: int
    sha256: str
    blake3: str | None = None
    """As `b3sum` prints it; None for what is no file: answers of people, the rows of a query."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FilledTarget:
    """Labels from elsewhere for some rows of a block: `rows` (k,) within the block, `values` in the column's type."""

    column: str
    rows: tuple[int, ...]
    values: pa.Array
    weak_rows: frozenset[int] = frozenset()
    """Rows whose label no person gave: they may be learned from, and nothing is judged by them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """What one task reads. `root` is a URI for a remote file system, and None for the local one."""

    index: int
    root: str | None
    path: str
    format: Format
    row_group: int | None
    first_row: int
    """How many rows of the source stand before it."""
    num_rows: int
    filled: FilledTarget | None = None


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
    descriptors = [(part, group, num_rows) for part in parts for group, num_rows in part.row_groups]
    if not descriptors or not schema.names:
        raise asked.error("holds no rows; point it at a table with rows.")
    starts = [0, *accumulate(num_rows for *_, num_rows in descriptors)]
    blocks = tuple(
        Block(
            index=index,
            root=location.root,
            path=part.path,
            format=part.format,
            row_group=group,
            first_row=starts[index],
            num_rows=num_rows,
        )
        for index, (part, group, num_rows) in enumerate(descriptors)
    )
    return Source(
        text=asked.shown, files=files, blocks=blocks, schema=schema, num_rows=starts[-1], modified_at=modified_at
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


def read_block(
    block: Block, schema: pa.Schema, columns: Sequence[str] | None = None, *, as_dictionaries: bool = False
) -> pa.Table:
    """The rows of one block in the types of `schema`; only `columns` when given, in that order.

    With `as_dictionaries`, strings of a Parquet file stay what they mostly are there, indices into a dictionary:
    reading them is then 2.5 times cheaper.

    Raises:
        DataError: the file has changed or cannot be read.
    """
    filesystem = fs.LocalFileSystem() if block.root is None else fs.FileSystem.from_uri(block.root)[0]
    names = schema.names if columns is None else columns
    fields = [schema.field(name) for name in names]
    if as_dictionaries:
        fields = [dictionary_field(field) for field in fields]
    try:
        if block.format == "parquet":
            with filesystem.open_input_file(block.path) as stream:
                metadata = footer(filesystem, block.path, stream)
                held = set(metadata.schema.to_arrow_schema().names) & set(names)
                coded = [f.name for f in fields if pa.types.is_dictionary(f.type) and f.name in held]
                file = pq.ParquetFile(stream, metadata=metadata, read_dictionary=coded)
                table = file.read_row_group(block.row_group, [n for n in names if n in held], use_threads=False)
        else:
            table = read_text(filesystem, block.path, block.format, schema)
        arrays = [_filled(_as_type(table, field), field.name, block.filled) for field in fields]
    except (OSError, pa.ArrowException, UnicodeError, ValueError) as error:
        reason = first_line(error, secret=block.root or "")
        raise DataError(f"data.source = {block.path} cannot be read ({reason}); check the file.") from error
    return pa.Table.from_arrays(arrays, names=list(names))


@dataclass(frozen=True, kw_only=True)
class _FilePart:
    path: str
    format: Format
    schema: pa.Schema
    row_groups: list[tuple[int | None, int]]
    """Each with its rows; None for a file that is one block."""

    @classmethod
    def read(cls, filesystem: fs.FileSystem, path: str) -> _FilePart:
        format_ = format_of(path)
        assert format_ is not None, "find_files gives no others"
        if format_ == "parquet":
            with filesystem.open_input_file(path) as stream:
                file = pq.ParquetFile(stream)
                counts = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
                groups: list[tuple[int | None, int]] = [(index, count) for index, count in enumerate(counts) if count]
                return cls(path=path, format=format_, schema=file.schema_arrow, row_groups=groups)
        table = read_text(filesystem, path, format_, None)
        groups = [(None, table.num_rows)] if table.num_rows else []
        return cls(path=path, format=format_, schema=table.schema, row_groups=groups)


def _as_type(table: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    if field.name not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, field.type)])
    column = bytes_of(table.column(field.name))
    if column.type == field.type:
        return column
    if not pa.types.is_dictionary(field.type):
        return column.cast(field.type)
    if column.type != field.type.value_type:
        column = column.cast(field.type.value_type)
    return column.dictionary_encode()


def _filled(column: pa.ChunkedArray, name: str, filled: FilledTarget | None) -> pa.ChunkedArray:
    if filled is None or filled.column != name:
        return column
    is_coded = pa.types.is_dictionary(column.type)
    plain = column.cast(column.type.value_type) if is_coded else column
    is_filled = np.zeros(len(column), dtype=np.bool_)
    is_filled[list(filled.rows)] = True
    whole = pa.chunked_array([pc.replace_with_mask(plain.combine_chunks(), pa.array(is_filled), filled.values)])
    return whole.dictionary_encode() if is_coded else whole


def _hashed(location: Location, path: str, name: str) -> SourceFile:
    digest, quick, size = hashlib.sha256(), blake3(), 0
    # compression=None: the hash is of the file as it lies there, not of what a .gz unpacks to.
    with location.filesystem.open_input_stream(path, compression=None) as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
            quick.update(chunk)
            size += len(chunk)
    return SourceFile(name=name, size_bytes=size, sha256=digest.hexdigest(), blake3=quick.hexdigest())


def _newest(location: Location, paths: list[str]) -> float | None:
    written = [info.mtime_ns for info in location.filesystem.get_file_info(paths) if info.mtime_ns]
    return max(written) / 1e9 if written else None


def dictionary_field(field: pa.Field) -> pa.Field:
    """The field as `read_block` gives it with `as_dictionaries`."""
    return field.with_type(pa.dictionary(pa.int32(), field.type)) if pa.types.is_string(field.type) else field


def plain_table(table: pa.Table) -> pa.Table:
    """The same values without dictionaries."""
    return table.cast(pa.schema([each.with_type(plain_type(each.type)) for each in table.schema]))
