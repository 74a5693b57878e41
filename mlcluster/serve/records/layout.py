"""How answers lie: nested while a file is open, one row a request, and flat in Parquet, one row a predicted row.

    prediction_id, num_rows, answered_at, latency_ms, request_id, trace_id, digest,
    rows: list of (input_<feature>, probabilities | value)

becomes

    model, version, trial_id, prediction_id, row, num_rows, answered_at, latency_ms, request_id, trace_id, digest,
    input_<feature>, label and probabilities | value

A request of many rows, or of none, is one row without values. Whatever is the same for a whole file stands in its
schema until then, and a label is the class of the largest probability. Whoever makes Parquet needs no model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

MAX_RECORDED_ROWS = 100
"""A request of more rows is recorded by their number and its digest."""
INPUT = "input_"
"""Before the names of features, which may be those of other columns."""
ROWS = "rows"
"""The nested column."""
CONSTANTS = ("model", "version", "trial_id")
_META = b"mlcluster.record"
_TYPES: Mapping[str, pa.DataType] = {
    "BOOL": pa.bool_(),
    "INT64": pa.int64(),
    "UINT64": pa.uint64(),
    "FP64": pa.float64(),
    "BYTES": pa.string(),
}
_OF_REQUEST = (
    pa.field("prediction_id", pa.string(), nullable=False),
    pa.field("num_rows", pa.int32(), nullable=False),
    pa.field("answered_at", pa.timestamp("ms", "UTC"), nullable=False),
    pa.field("latency_ms", pa.float32(), nullable=False),
    pa.field("request_id", pa.string()),
    pa.field("trace_id", pa.string()),
    pa.field("digest", pa.string()),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionRecord:
    """One answered request."""

    id: str
    model: str
    version: str
    trial_id: str
    received_at: str
    """ISO 8601, UTC."""
    num_rows: int
    latency_ms: float
    digest: str | None
    """SHA-256 of the request's body, where its values are not kept."""
    inputs: dict[str, list[Any]] | None
    """Raw values by column; None above `MAX_RECORDED_ROWS` rows."""
    outputs: dict[str, list[Any]] | None
    request_id: str | None = None
    """The client's own, or ours; None where it is not known."""
    trace_id: str | None = None
    """Of W3C Trace Context, 32 hexadecimal digits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordConstants:
    """What is the same for all answers of one model."""

    model: str
    version: str
    trial_id: str
    classes: tuple[str | int | float | bool, ...]
    """None for a regression."""
    label: str
    """Datatype of the classes, or of the value."""
    singles: tuple[str, ...]
    """Features whose values are rounded to 32 bits before the model sees them."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RecordLayout:
    """The nested table of one model's answers."""

    model: str
    version: str
    numbers: tuple[str, ...]
    """Features that are kept as float64."""
    others: Mapping[str, pa.DataType]
    """The rest of them, with their types."""
    read_images: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None
    """Makes of a request's columns those that are kept, an image being its SHA-256; None where there are no images."""
    schema: pa.Schema

    @classmethod
    def made(
        cls,
        constants: RecordConstants,
        datatypes: Mapping[str, str],
        *,
        read_images: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None,
    ) -> RecordLayout:
        """`datatypes` are the protocol's, by feature."""
        types = {name: _TYPES[datatype] for name, datatype in datatypes.items()}
        answer = pa.field("value", pa.float64())
        if constants.classes:
            answer = pa.field("probabilities", pa.list_(pa.float64(), len(constants.classes)))
        row = pa.struct([*(pa.field(f"{INPUT}{name}", kind) for name, kind in types.items()), answer])
        metadata = {_META: json.dumps(asdict(constants)).encode()}
        return cls(
            model=constants.model,
            version=constants.version,
            numbers=tuple(name for name, kind in types.items() if kind == pa.float64()),
            others={name: kind for name, kind in types.items() if kind != pa.float64()},
            read_images=read_images,
            schema=pa.schema([*_OF_REQUEST, pa.field(ROWS, pa.list_(row))], metadata=metadata),
        )


def constants_of(schema: pa.Schema) -> dict[str, Any]:
    """The `RecordConstants` of a nested table's schema, as far as whoever made it knew them."""
    return dict(json.loads(schema.metadata[_META]))


def are_kept(num_rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.bool_]:
    """Whether the values of requests of so many rows are kept."""
    return (num_rows > 0) & (num_rows <= MAX_RECORDED_ROWS)


def list_offsets(lengths: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Where each of these lists, or texts, begins, and where the last one ends, as Arrow has it."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def kept_rows(batch: pa.RecordBatch) -> pa.StructArray:
    """The rows of a nested batch whose values are kept."""
    rows, num_rows = batch.column(ROWS), batch.column("num_rows").to_numpy()
    is_kept = are_kept(num_rows)
    if is_kept.all():
        return rows.flatten()
    return rows.filter(pa.array(is_kept)).flatten()


def flat_table(nested: pa.Table) -> pa.Table:
    """One row a predicted row, from one row a request."""
    constants = constants_of(nested.schema)
    nested = nested.combine_chunks()
    rows, num_rows = _chunk(nested[ROWS]), _chunk(nested["num_rows"]).to_numpy()
    parents = pc.list_parent_indices(rows)
    starts = rows.offsets.to_numpy()[:-1] - rows.offsets[0].as_py()
    numbers = np.arange(len(parents)) - starts[parents.to_numpy()]
    is_kept = are_kept(num_rows)[parents.to_numpy()]
    same = pa.array(np.zeros(len(parents), dtype=np.int32))
    columns = {name: pa.DictionaryArray.from_arrays(same, pa.array([constants[name]])) for name in CONSTANTS}
    for position, field in enumerate(_OF_REQUEST):
        column = _chunk(nested[field.name])
        columns[field.name] = column if len(column) == len(parents) else column.take(parents)
        if position == 0:
            columns["row"] = pa.array(numbers.astype(np.int32), mask=~is_kept)
    values = rows.flatten()
    for name, column in zip(values.type.names, values.flatten(), strict=True):
        if name == "probabilities":
            columns["label"] = _labels(column, pa.array(constants["classes"], _TYPES[constants["label"]]))
        columns[name] = _lists(column) if name == "probabilities" else column
    return pa.table(columns)


def _chunk(column: pa.ChunkedArray) -> pa.Array:
    """A column of a table whose chunks were combined; an empty one has none."""
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _lists(probabilities: pa.FixedSizeListArray) -> pa.ListArray:
    """The same as lists of any length: a Parquet file of lists of one length, one of them null, cannot be read."""
    size = probabilities.type.list_size
    is_missing = probabilities.is_null().to_numpy(zero_copy_only=False)
    offsets = list_offsets(np.where(is_missing, 0, size))
    return pa.ListArray.from_arrays(pa.array(offsets), probabilities.flatten(), mask=pa.array(is_missing))


def _labels(probabilities: pa.FixedSizeListArray, classes: pa.Array) -> pa.Array:
    """The most probable class of each row, null where there are no probabilities."""
    flat = probabilities.values.slice(probabilities.offset * len(classes), len(probabilities) * len(classes))
    largest = flat.to_numpy(zero_copy_only=False).reshape(-1, len(classes)).argmax(axis=1)
    return classes.take(pa.array(largest, mask=probabilities.is_null().to_numpy(zero_copy_only=False)))


def records_of(table: pa.Table) -> Iterator[PredictionRecord]:
    """The requests of a flat table, in its order; without the inputs where it lacks their columns."""
    names = [name for name in table.column_names if name.startswith(INPUT)]
    answers = [name for name in ("label", "probabilities", "value") if name in table.column_names]
    columns = table.to_pydict()
    at = 0
    while at < table.num_rows:
        is_kept = columns["row"][at] is not None
        stop = at + (columns["num_rows"][at] if is_kept else 1)
        yield PredictionRecord(
            id=columns["prediction_id"][at],
            **{name: columns[name][at] for name in CONSTANTS},
            received_at=_iso(columns["answered_at"][at]),
            num_rows=columns["num_rows"][at],
            latency_ms=round(columns["latency_ms"][at], 3),
            digest=columns["digest"][at],
            inputs={name.removeprefix(INPUT): columns[name][at:stop] for name in names} if is_kept else None,
            outputs={name: columns[name][at:stop] for name in answers} if is_kept else None,
            request_id=columns["request_id"][at],
            trace_id=columns["trace_id"][at],
        )
        at = stop


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
