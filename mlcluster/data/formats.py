"""What files hold: CSV and JSON as tables, and one schema that all files of a source can be read as."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
from pyarrow import fs

from mlcluster.data.files import Asked, Format

_PANDAS_INDEX = re.compile(r"^__index_level_\d+__$")


def read_text(filesystem: fs.FileSystem, path: str, format_: Format, schema: pa.Schema | None) -> pa.Table:
    """A whole CSV or JSON file, in the types of `schema` where it is given."""
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


def common_schema(schemas: list[pa.Schema], asked: Asked) -> pa.Schema:
    """One schema that every file can be read as, without dictionary types.

    Raises:
        DataError: there is none, or a column stands twice in a file.
    """
    plain = []
    for schema in schemas:
        fields = [field for field in schema if not _PANDAS_INDEX.match(field.name)]
        plain.append(pa.schema([pa.field(field.name, plain_type(field.type)) for field in fields]))
        twice = {name for name in schema.names if schema.names.count(name) > 1}
        if twice:
            raise asked.error(f"has the column {min(twice)!r} twice; rename one of the two.")
    try:
        return pa.unify_schemas(plain, promote_options="permissive")
    except pa.ArrowException as error:
        raise asked.error(f"has files that do not fit together ({error}); align them.") from error


def plain_type(kind: pa.DataType) -> pa.DataType:
    """One type for text, and one for bytes, however a file holds it: a block is far from the 2 GiB that they can hold.

    A struct of `bytes` and `path`, as collections of images are often written, stands for its bytes.
    """
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    if is_bytes_struct(plain) or pa.types.is_large_binary(plain) or pa.types.is_binary_view(plain):
        return pa.binary()
    return pa.string() if pa.types.is_large_string(plain) or pa.types.is_string_view(plain) else plain


def is_bytes_struct(kind: pa.DataType) -> bool:
    """Whether it is a struct of `bytes` and `path`, and nothing else."""
    if not pa.types.is_struct(kind) or {kind.field(index).name for index in range(kind.num_fields)} != {
        "bytes",
        "path",
    }:
        return False
    held = kind.field("bytes").type
    return bool(pa.types.is_binary(held) or pa.types.is_large_binary(held))


def bytes_of(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The bytes of a column that holds them in a struct; any other column as it is."""
    return pc.struct_field(column, "bytes") if is_bytes_struct(column.type) else column
