"""A transform applied column by column: a table of small types, where `Transform.apply` gives one float32 matrix.

The values are the same to the last bit. Numbers are float32, codes the smallest whole number that holds them, and
one-hot columns and indicators boolean, so that a shard on disk is small and cheap to write.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlcluster.data.images import ImagePixels
from mlcluster.data.transform import (
    FLOAT32_MAX,
    CodedCategory,
    CodeLookup,
    ColumnEncoding,
    RawNumber,
    ScaledNumber,
    Transform,
    numbers_of,
)


class ColumnarTransform:
    """`transform`, with its look-ups built once for many blocks."""

    def __init__(self, transform: Transform) -> None:
        self._transform = transform
        self._lookups = {c.name: CodeLookup(c) for c in transform.columns if isinstance(c, CodedCategory)}

    @property
    def schema(self) -> pa.Schema:
        """The output columns: `Transform.output_names` with their types; an image is one column of lists."""
        return pa.schema([field for column in self._transform.columns for field in _fields(column)])

    def apply(self, table: pa.Table) -> pa.Table:
        """The encoded table of n rows; extra columns of `table` are ignored."""
        return pa.Table.from_arrays(list(self._arrays(table)), schema=self.schema)

    def _arrays(self, table: pa.Table) -> Iterator[pa.Array]:
        for encoding in self._transform.columns:
            column = table.column(encoding.name)
            if isinstance(encoding, CodedCategory):
                yield from self._category(encoding, column)
            elif isinstance(encoding, ImagePixels):
                yield pa.FixedSizeListArray.from_arrays(encoding.values(column).ravel(), encoding.shape.num_values)
            else:
                yield from _number(encoding, column)

    def _category(self, encoding: CodedCategory, column: pa.ChunkedArray) -> Iterator[pa.Array]:
        kind = code_type(encoding.num_codes)
        codes = self._lookups[encoding.name].small_codes(column, np.dtype(kind.to_pandas_dtype()))
        if encoding.one_hot:
            for code in range(encoding.num_codes):
                yield pa.array(codes == code)
        else:
            yield pa.array(codes)
        if encoding.with_indicator:
            yield column.is_null().combine_chunks()


def code_type(num_codes: int) -> pa.DataType:
    """The smallest unsigned type that holds the codes 0 to `num_codes` - 1."""
    return pa.uint8() if num_codes <= 1 << 8 else pa.uint16() if num_codes <= 1 << 16 else pa.uint32()


def _fields(encoding: ColumnEncoding) -> Iterator[pa.Field]:
    if isinstance(encoding, ImagePixels):
        yield pa.field(encoding.name, pa.list_(pa.float32(), encoding.shape.num_values))
        return
    names = iter(encoding.outputs)
    if not isinstance(encoding, CodedCategory):
        yield pa.field(next(names), pa.float32())
    elif not encoding.one_hot:
        yield pa.field(next(names), code_type(encoding.num_codes))
    yield from (pa.field(name, pa.bool_()) for name in names)


def _number(encoding: RawNumber | ScaledNumber, column: pa.ChunkedArray) -> Iterator[pa.Array]:
    values = numbers_of(column)
    is_missing = np.isnan(values)
    if isinstance(encoding, RawNumber):
        np.clip(values, -FLOAT32_MAX, FLOAT32_MAX, out=values)
        values[is_missing] = np.nan  # one NaN, whichever bits the source had
        yield pa.array(values.astype(np.float32))
        return
    yield pa.array(_scaled(values, is_missing, encoding))
    if encoding.with_indicator:
        yield pa.array(is_missing)


def _scaled(
    values: npt.NDArray[np.float64], is_missing: npt.NDArray[np.bool_], encoding: ScaledNumber
) -> npt.NDArray[np.float32]:
    """See `ScaledNumber`; `values` (n,) are overwritten."""
    np.copyto(values, encoding.fill, where=is_missing)
    np.clip(values, encoding.low, encoding.high, out=values)
    values -= encoding.center
    values /= encoding.scale or np.inf
    values += 0.0  # there is one zero, as in `NumberWriter`
    np.clip(values, -FLOAT32_MAX, FLOAT32_MAX, out=values)
    return values.astype(np.float32)
