"""Answers gathered as bytes, a few operations a request; the table of many is made later, in whatever process.

Nothing of a request is kept as an object: what waits for a thread would be freed where that one runs. Numbers are
packed by `struct`, in 4 ns a value, where `pyarrow.array` takes 23; text as JSON in 10 to 20.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from mlcluster.serve.records.answered import Answered
from mlcluster.serve.records.frames import MAGIC, PART_LENGTHS, TRACE_ID_LENGTH, batch_of, mended
from mlcluster.serve.records.layout import MAX_RECORDED_ROWS, RecordLayout

_NAN = float("nan")
_HEAD = struct.Struct("<qf4i")
"""As `frames.HEADS`."""
_TRACE_ID = slice(3, 3 + TRACE_ID_LENGTH)
"""Of a `traceparent`."""


class RecordBlock:
    """The answers since the last block; for one thread at a time."""

    def __init__(self, layout: RecordLayout) -> None:
        self._layout = layout
        self.num_requests = 0
        self.num_rows = 0
        """Whose values are kept; a request of many rows counts as one."""
        self.num_bytes = 0
        """Of the requests' bodies."""
        self._heads, self._ids, self._request_ids, self._trace_ids = (bytearray() for _ in range(4))
        self._digests, self._doubles, self._others, self._scores = (bytearray() for _ in range(4))

    def add(self, answered: Answered) -> None:
        """Raises where a column is not there, and adds nothing then."""
        layout, prediction_id, at_ms, latency_ms, columns, doubles, scores, body, ids = answered
        num_asked = num_rows = len(scores)
        is_kept = 0 < num_rows <= MAX_RECORDED_ROWS
        if not is_kept:  # its values would be most of what is kept
            num_rows = 1
            columns, doubles = {name: [None] for name in columns}, None
            scores = np.full((1, *scores.shape[1:]), _NAN)
        elif layout.read_images is not None:
            columns = layout.read_images(columns)
        others = _json([columns[name] for name in layout.others], layout) if layout.others else b""
        packed = _packed(columns, layout.numbers, num_rows) if doubles is None else doubles.T.tobytes()
        self._doubles += packed
        self._others += others
        self._scores += scores.tobytes()
        name = prediction_id.encode("ascii")
        self._ids += name
        self._request_ids += ids.request_id
        self._trace_ids += ids.traceparent[_TRACE_ID]
        self._heads += _HEAD.pack(at_ms, latency_ms, num_asked, num_rows, len(name), len(ids.request_id))
        if not is_kept:
            self._digests += hashlib.sha256(body).hexdigest().encode("ascii")
        self.num_requests += 1
        self.num_rows += num_rows
        self.num_bytes += len(body)

    def frame(self) -> list[bytes | bytearray]:
        """All of it, in parts."""
        parts = [self._heads, self._ids, self._request_ids, self._trace_ids]
        parts += [self._digests, self._doubles, self._others, self._scores]
        return [MAGIC, PART_LENGTHS.pack(*map(len, parts)), *parts]

    def batch(self) -> pa.RecordBatch:
        """All of it, in the layout's schema."""
        return batch_of(b"".join(self.frame()), self._layout.schema)


def _packed(columns: Mapping[str, Sequence[Any]], names: Sequence[str], num_rows: int) -> bytes:
    """The values of these columns, one row after another, as float64; NaN for missing."""
    if num_rows == 1:
        values = [columns[name][0] for name in names]
    else:
        values = [*chain.from_iterable(zip(*[columns[name] for name in names], strict=True))]
    try:
        return struct.pack(f"<{len(values)}d", *values)
    except (struct.error, OverflowError):
        return struct.pack(f"<{len(values)}d", *map(_number, values))


def _number(value: Any) -> float:
    """NaN for what is missing, or beyond all numbers: the answer was given all the same."""
    try:
        return _NAN if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        return _NAN


def _json(columns: Sequence[Any], layout: RecordLayout) -> bytes:
    try:
        return orjson.dumps(columns, option=orjson.OPT_SERIALIZE_NUMPY) + b","
    except TypeError:  # a whole number of more than 64 bits, or half of a surrogate pair
        kinds = layout.others.values()
        return (
            orjson.dumps(
                [[mended(value, kind) for value in values] for values, kind in zip(columns, kinds, strict=True)]
            )
            + b","
        )
