"""The raw data: which files it is, what they hold, and how one block of them is read.

A block is one row group of a Parquet file, or one whole CSV or JSON file. Blocks stand in the order of the sorted
paths, which gives every row of the source a number that no engine and no number of workers can change.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from pyarrow import fs

from mlcluster.errors import DataError

Format = Literal["parquet", "csv", "json"]

_FORMATS: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}
_PANDAS_INDEX = re.compile(r"^__index_level_\d+__$")


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """One file, by name and content. `name` is as short as tells the files of one source apart."""

    name: str
    size_bytes: int
    sha256: str


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

    @property
    def name(self) -> str:
        """A short name for people: `adult` for `data/adult.parquet`."""
        stem = PurePosixPath(re.sub(r"[*?\[].*$", "", self.text)).name.split(".")[0]
        return stem.strip("-_ ") or "data"

    @property
    def num_rows(self) -> int:
        last = self.blocks[-1]
        return last.first_row + last.num_rows

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over the names and contents of all files."""
        listed = "\n".join(f"{file.sha256} {file.name}" for file in self.files)
        return hashlib.sha256(listed.encode()).hexdigest()

    @property
    def label(self) -> str:
        """How messages call it: the file, or the whole source when there are more."""
        return self.files[0].name if len(self.files) == 1 else self.text


def read_source(text: str, *, base: Path) -> Source:
    """The files, blocks and schema of a path, directory, glob or URI; relative paths start at `base`.

    Raises:
        DataError: nothing is there, a format is unknown, a file cannot be read, or there are no rows.
    """
    root, filesystem, path = _locate(text, base)
    text = _without_credentials(text)
    try:
        paths = _paths(filesystem, path, text)
        parts = [_FilePart.read(filesystem, each) for each in paths]
        files = tuple(_hashed(filesystem, each, name) for each, name in zip(paths, _short_names(paths), strict=True))
    except (OSError, pa.ArrowException, UnicodeError, ValueError) as error:
        reason = _without_credentials(str(error)).split("\n", maxsplit=1)[0][:160]
        raise DataError(f"data.source = {text} cannot be read ({reason}); check the file and its format.") from error
    schema = _common_schema([part.schema for part in parts], text)
    descriptors = [(part, group, num_rows) for part in parts for group, num_rows in part.row_groups]
    if not descriptors or not schema.names:
        raise DataError(f"data.source = {text} holds no rows; point it at a table with rows.")
    starts = accumulate((num_rows for *_, num_rows in descriptors), initial=0)
    blocks = tuple(
        Block(
            index=index,
            root=root,
            path=part.path,
            format=part.format,
            row_group=group,
            first_row=first_row,
            num_rows=num_rows,
        )
        for index, ((part, group, num_rows), first_row) in enumerate(zip(descriptors, starts, strict=False))
    )
    return Source(text=text, files=files, blocks=blocks, schema=schema)


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
                metadata = pq.read_metadata(stream)
                held = set(metadata.schema.to_arrow_schema().names) & set(names)
                coded = [f.name for f in fields if pa.types.is_dictionary(f.type) and f.name in held]
                file = pq.ParquetFile(stream, metadata=metadata, read_dictionary=coded)
                table = file.read_row_group(block.row_group, [n for n in names if n in held], use_threads=False)
        else:
            table = _read_text(filesystem, block.path, block.format, schema)
        arrays = [_filled(_as_type(table, field), field.name, block.filled) for field in fields]
    except (OSError, pa.ArrowException, UnicodeError, ValueError) as error:
        reason = _without_credentials(str(error)).split("\n", maxsplit=1)[0][:160]
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
        format_ = _format_of(path)
        if format_ is None:
            known = ", ".join(_FORMATS)
            raise DataError(f"data.source = {path} has an unknown format; give a file that ends in {known}.")
        if format_ == "parquet":
            with filesystem.open_input_file(path) as stream:
                file = pq.ParquetFile(stream)
                counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
                groups: list[tuple[int | None, int]] = [(i, count) for i, count in enumerate(counts) if count]
                return cls(path=path, format=format_, schema=file.schema_arrow, row_groups=groups)
        table = _read_text(filesystem, path, format_, None)
        return cls(
            path=path,
            format=format_,
            schema=table.schema,
            row_groups=[(None, table.num_rows)] if table.num_rows else [],
        )


def _locate(text: str, base: Path) -> tuple[str | None, fs.FileSystem, str]:
    if "://" not in text:
        return None, fs.LocalFileSystem(), (base / Path(text).expanduser()).resolve().as_posix()
    if text.startswith("file://"):
        return None, fs.LocalFileSystem(), text.removeprefix("file://")
    plain = re.split(r"[*?\[]", text, maxsplit=1)[0]
    try:
        filesystem, path = fs.FileSystem.from_uri(plain)
    except (pa.ArrowException, OSError, ValueError) as error:
        shown, reason = _without_credentials(text), _without_credentials(str(error))
        raise DataError(f"data.source = {shown} cannot be opened ({reason}); use s3:// or gs://.") from error
    return plain, filesystem, path + text[len(plain) :]


def _without_credentials(text: str) -> str:
    """`s3://key:secret@bucket/x` without its key and secret, for messages and manifests."""
    return re.sub(r"://[^/@]+@", "://", text)


def _paths(filesystem: fs.FileSystem, path: str, text: str) -> list[str]:
    """The files of a path, directory or glob, sorted."""
    if re.search(r"[*?\[]", path) and filesystem.get_file_info(path).type == fs.FileType.NotFound:
        fixed = re.split(r"[*?\[]", path, maxsplit=1)[0].rsplit("/", maxsplit=1)[0]
        pattern = re.compile(_glob_pattern(path))
        found = [each for each in _listed(filesystem, fixed) if pattern.match(each)]
    else:
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.File:
            return [path]
        found = [each for each in _listed(filesystem, path) if _format_of(each)]
    if not found:
        raise DataError(f"data.source = {text} matches no file; check the path, which is relative to the project file.")
    formats = sorted({str(_format_of(each)) for each in found})
    if len(formats) > 1 and "None" not in formats:
        raise DataError(f"data.source = {text} mixes formats ({', '.join(formats)}); name the files of one of them.")
    return sorted(found)


def _glob_pattern(path: str) -> str:
    """`*` and `?` stay within one folder, `**/` crosses any number of them."""
    meanings = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    tokens = re.findall(r"\*\*/|\*|\?|\[[^]]+\]|[^*?\[]+|\[", path)
    return "".join(meanings.get(t) or (t if t[:1] == "[" and len(t) > 1 else re.escape(t)) for t in tokens) + "$"


def _listed(filesystem: fs.FileSystem, folder: str) -> list[str]:
    selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
    infos = [info for info in filesystem.get_file_info(selector) if info.type == fs.FileType.File]
    hidden = re.compile(r"(^|/)[._]")
    return [info.path for info in infos if not hidden.search(info.path.removeprefix(folder)) and info.size]


def _format_of(path: str) -> Format | None:
    pure = PurePosixPath(path.lower())
    if pure.suffix == ".gz":
        pure = pure.with_suffix("")
        return _FORMATS.get(pure.suffix) if pure.suffix not in (".parquet", ".pq") else None
    return _FORMATS.get(pure.suffix)


def _read_text(filesystem: fs.FileSystem, path: str, format_: Format, schema: pa.Schema | None) -> pa.Table:
    with filesystem.open_input_stream(path) as stream:
        if format_ == "json":
            return _read_json(stream.read(), schema)
        tabs = ".tsv" in PurePosixPath(path.lower()).suffixes
        types = None if schema is None else {field.name: field.type for field in schema}
        return pyarrow.csv.read_csv(
            stream,
            parse_options=pyarrow.csv.ParseOptions(delimiter="\t" if tabs else ",", newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True, column_types=types),
        )


def _read_json(content: bytes, schema: pa.Schema | None) -> pa.Table:
    if content.lstrip()[:1] == b"[":
        rows: list[dict[str, Any]] = json.loads(content)
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("the list holds something other than objects")
        return pa.Table.from_pylist(rows) if schema is None else pa.Table.from_pylist(rows, schema=schema)
    options = pyarrow.json.ParseOptions(explicit_schema=schema)
    return pyarrow.json.read_json(pa.BufferReader(content), parse_options=options)


def _common_schema(schemas: list[pa.Schema], text: str) -> pa.Schema:
    """One schema that every file can be read as."""
    plain = []
    for schema in schemas:
        fields = [field for field in schema if not _PANDAS_INDEX.match(field.name)]
        plain.append(pa.schema([pa.field(field.name, _plain_type(field.type)) for field in fields]))
        twice = {name for name in schema.names if schema.names.count(name) > 1}
        if twice:
            raise DataError(f"data.source = {text} has the column {min(twice)!r} twice; rename one of the two.")
    try:
        return pa.unify_schemas(plain, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(f"data.source = {text} has files that do not fit together ({error}); align them.") from error


def dictionary_field(field: pa.Field) -> pa.Field:
    """The field as `read_block` gives it with `as_dictionaries`."""
    return field.with_type(pa.dictionary(pa.int32(), field.type)) if pa.types.is_string(field.type) else field


def plain_table(table: pa.Table) -> pa.Table:
    """The same values without dictionaries."""
    return table.cast(pa.schema([each.with_type(_plain_type(each.type)) for each in table.schema]))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """One type for text, however a file holds it: a block's text is far from the 2 GiB that `string` can hold."""
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.string() if pa.types.is_large_string(plain) or pa.types.is_string_view(plain) else plain


def _as_type(table: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    if field.name not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, field.type)])
    column = table.column(field.name)
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


def _hashed(filesystem: fs.FileSystem, path: str, name: str) -> SourceFile:
    digest, size = hashlib.sha256(), 0
    # compression=None: the hash is of the file as it lies there, not of what a .gz unpacks to.
    with filesystem.open_input_stream(path, compression=None) as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    return SourceFile(name=name, size_bytes=size, sha256=digest.hexdigest())


def _short_names(paths: list[str]) -> list[str]:
    if len(paths) == 1:
        return [PurePosixPath(paths[0]).name]
    folders = [PurePosixPath(path).parent.parts for path in paths]
    shared = 0
    while all(len(folder) > shared for folder in folders) and len({folder[shared] for folder in folders}) == 1:
        shared += 1
    return ["/".join(PurePosixPath(path).parts[shared:]) for path in paths]
