"""Which columns of bytes hold images, told by the first of their values, and noted in the schema that all tasks get."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from mlcluster.data.images.header import read_header
from mlcluster.data.source import Source, read_block

_LOOKED_AT = 64
_MARK = {b"mlcluster": b"image"}


def mark_images(source: Source) -> Source:
    """`source`, in whose schema a column of bytes is marked where one of its first values is a PNG or a JPEG.

    Raises:
        DataError: a file cannot be read.
    """
    fields = list(source.schema)
    for place, field in enumerate(fields):
        if pa.types.is_binary(field.type) and _holds_images(source, field.name):
            fields[place] = field.with_metadata(_MARK)
    return replace(source, schema=pa.schema(fields))


def is_image_field(field: pa.Field) -> bool:
    """Whether `mark_images` has found images in that column."""
    return bool(pa.types.is_binary(field.type) and (field.metadata or {}).get(b"mlcluster") == b"image")


def _holds_images(source: Source, name: str) -> bool:
    for block in source.blocks:
        first = read_block(block, source.schema, [name]).column(0).drop_null().slice(0, _LOOKED_AT)
        if len(first):
            return any(read_header(value) is not None for value in first.to_pylist())
    return False
