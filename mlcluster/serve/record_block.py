"""Answers gathered into columns: a few operations a request, and Arrow's arrays once for many.

Numbers are packed at once, where the encoder has not done so already: by `struct`, in 4 ns a value, where
`pyarrow.array` takes 23 and `numpy.array` 17. Requests that were kept as they came, each a dictionary of lists of
floats, would be what the collector of cyclic garbage walks through, over and over.
"""

from __future__ import annotations

import hashlib
import struct
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlcluster.serve.record_layout import INPUT, MAX_RECORDED_ROWS, ROWS, RecordLayout
from mlcluster.serve.records import Answered
from mlcluster.serve.tensors import listed, recorded_inputs

_NAN = float("nan")


class RecordBlock:
    """The answers since the last block; for one thread at a time."""

    def __init__(self, layout: RecordLayout) -> None:
        self._layout = layout
        self._row = layout.schema.field(ROWS).type.value_type
        self.num_rows = 0
        """Whose values are kept; a request of many rows counts as one."""
        self.num_bytes = 0
        """Of the requests' bodies."""
        self._requests: list[tuple[str, int, int, float, str | None, str | None, str | None]] = []
        types = {spec.name: self._row.field(f"{INPUT}{spec.name}").type for spec in layout.inputs}
        self._numbers = [name for name, kind in types.items() if kind == pa.float64()]
        self._doubles: list[npt.NDArray[np.float64] | bytes] = []
        """For each request, (numbers, rows), or its bytes."""
        self._others = {name: _Column(kind) for name, kind in types.items() if kind != pa.float64()}
        self._has_images = any(spec.is_image for spec in layout.inputs)
        self._scores: list[npt.NDArray[np.float64]] = []

    @property
    def num_requests(self) -> int:
        return len(self._requests)

    def add(self, answered: Answered) -> None:
        """Raises where a column is not there, and adds nothing then."""
        columns, doubles, scores, digest = answered.columns, answered.doubles, answered.scores, None
        num_rows = len(scores)
        num_asked = num_rows
        if not 0 < num_rows <= MAX_RECORDED_ROWS:  # its values would be most of what is kept
            num_rows, digest = 1, hashlib.sha256(answered.body).hexdigest()
            columns, doubles = {name: [None] for name in columns}, None
            scores = np.full((1, *scores.shape[1:]), _NAN)
        elif self._has_images:
            columns = recorded_inputs(columns, self._layout.inputs)
        others = [(column, columns[name]) for name, column in self._others.items()]
        if doubles is None:
            self._doubles.append(_packed([columns[name] for name in self._numbers]))
        else:
            self._doubles.append(doubles)
        for column, values in others:
            column.add(values)
        self._scores.append(scores)
        head = (answered.id, num_asked, answered.at_ms, answered.latency_ms)
        names = answered.ids.members
        self._requests.append((*head, names["request_id"], names["trace_id"], digest))
        self.num_rows += num_rows
        self.num_bytes += len(answered.body)

    def batch(self) -> pa.RecordBatch:
        """All of it, in the layout's schema."""
        ids, num_asked, at_ms, latencies, request_ids, traces, digests = zip(*self._requests, strict=True)
        schema = self._layout.schema
        ends = np.cumsum([len(scores) for scores in self._scores])
        offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
        columns = [
            pa.array(ids, pa.string()),
            pa.array(num_asked, pa.int32()),
            pa.array(np.array(at_ms, dtype="datetime64[ms]"), schema.field("answered_at").type),
            pa.array(np.array(latencies, dtype=np.float32)),
            pa.array(request_ids, pa.string()),
            pa.array(traces, pa.string()),
            pa.array(digests, pa.string()),
            pa.ListArray.from_arrays(offsets, self._rows(), type=schema.field(ROWS).type),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _rows(self) -> pa.StructArray:
        numbers = dict(zip(self._numbers, self._joined(), strict=True))
        for name in self._layout.singles:
            numbers[name] = numbers[name].astype(np.float32).astype(np.float64)
        children = [
            pa.array(numbers[spec.name], from_pandas=True) if spec.name in numbers else self._others[spec.name].array()
            for spec in self._layout.inputs
        ]
        return pa.StructArray.from_arrays([*children, self._answers()], fields=list(self._row))

    def _joined(self) -> npt.NDArray[np.float64]:
        """The numbers of all requests, (numbers, rows)."""
        num_numbers = len(self._numbers)
        packed = [one for one in self._doubles if isinstance(one, bytes)]
        if len(packed) == self.num_requests == self.num_rows:
            # One row each, as most are: thousands of arrays need not be made to be put together.
            return np.frombuffer(b"".join(packed)).reshape(self.num_rows, num_numbers).T
        parts = [np.frombuffer(one) if isinstance(one, bytes) else one for one in self._doubles]
        shapes = ((num_numbers, len(scores)) for scores in self._scores)
        return np.concatenate([part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)], axis=1)

    def _answers(self) -> pa.Array:
        """Probabilities or values; NaN is of requests whose values are not kept."""
        scores = np.concatenate(self._scores)
        if not self._layout.num_classes:
            return pa.array(scores, from_pandas=True)
        is_left_out = np.isnan(scores[:, 0])
        mask = pa.array(is_left_out) if is_left_out.any() else None
        return pa.FixedSizeListArray.from_arrays(pa.array(scores.ravel()), self._layout.num_classes, mask=mask)


def _packed(columns: list[Any]) -> bytes:
    """The values of all columns, one column after another, as float64; NaN for missing."""
    values = [*chain.from_iterable(columns)]
    try:
        return struct.pack(f"{len(values)}d", *values)
    except (struct.error, OverflowError):
        return struct.pack(f"{len(values)}d", *map(_number, values))


def _number(value: Any) -> float:
    """NaN for what is missing, or beyond all numbers: the answer was given all the same."""
    try:
        return _NAN if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        return _NAN


class _Column:
    """The values of one feature that is no float64."""

    def __init__(self, kind: pa.DataType) -> None:
        self._type = kind
        self._values: list[Any] = []

    def add(self, values: Any) -> None:
        self._values += listed(values) if isinstance(values, np.ndarray) else values

    def array(self) -> pa.Array:
        try:
            return pa.array(self._values, self._type)
        except (pa.ArrowException, UnicodeEncodeError, OverflowError, TypeError, ValueError):
            return pa.array([_mended(value, self._type) for value in self._values], self._type)


def _mended(value: Any, kind: pa.DataType) -> Any:
    """The value as near as the type can say it, None where it cannot: the answer was given all the same."""
    try:
        if pa.types.is_string(kind):
            return None if value is None else str(value).encode("utf-8", "replace").decode()
        return pa.scalar(value, kind).as_py()
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return None
