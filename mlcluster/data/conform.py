"""Rows from outside, held to the schema: either exactly the feature columns, or an error that names the field."""

from __future__ import annotations

import base64
import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlcluster.data.expect import expectation_text, first_broken
from mlcluster.data.formats import bytes_of
from mlcluster.data.images import decode_column, to_arrow
from mlcluster.data.schema import FeatureColumn, ImageShape, TableSchema
from mlcluster.errors import DataError

_DECIMAL = re.compile(r"^decimal(?P<bits>32|64|128|256)\((?P<precision>\d+), (?P<scale>-?\d+)\)$")


class RowError(DataError):
    """A row does not fit the schema: `field` has `problem`, at `row` (from 0) when it is one row's."""

    def __init__(self, field: str, problem: str, row: int | None = None) -> None:
        super().__init__(field, problem, row)
        self.field = field
        self.problem = problem
        self.row = row

    def __str__(self) -> str:
        return f"{self.field} {self.problem}" + ("" if self.problem.endswith(".") else ".")


def conform(table: pa.Table, schema: TableSchema, *, need_target: bool = False) -> pa.Table:
    """The feature columns in the schema's order and types, then the target if it is needed.

    Columns that the schema knows as no features are dropped. NaN in a column of whole numbers is missing. A dictionary
    of values of the right type stays one.

    Raises:
        RowError: a column is missing or unknown, or a value does not fit its type or breaks a rule of `data.expect`.
    """
    wanted = [*schema.feature_names, schema.target.name] if need_target else list(schema.feature_names)
    present = set(table.schema.names)
    for name in wanted:
        if name not in present:
            raise RowError(name, f"is missing{_nearest(name, present)}; send every column of the schema")
    _refuse_unknown(table.schema.names, schema)
    if len(present) < len(table.schema.names):
        twice = next(name for name in table.schema.names if table.schema.names.count(name) > 1)
        raise RowError(twice, "stands twice in the table; send it once")
    arrays = [_cast(table.column(feature.name), feature) for feature in schema.features]
    if need_target:
        arrays.append(table.column(schema.target.name))
    conformed = pa.Table.from_arrays(arrays, names=wanted)
    _refuse_broken(conformed, schema)
    return conformed


def rows_to_table(rows: Sequence[Mapping[str, object]], schema: TableSchema) -> pa.Table:
    """Rows as mappings of names to values, None or an absent name for missing; see `columns_to_table`."""
    names = dict.fromkeys(name for row in rows for name in row)
    return columns_to_table({name: [row.get(name) for row in rows] for name in names}, schema)


def columns_to_table(columns: Mapping[str, Sequence[object]], schema: TableSchema) -> pa.Table:
    """Python values as JSON gives them, None for missing, as the table that `Transform.apply` takes.

    Raises:
        RowError: a column is missing or unknown, columns differ in length, or a value has the wrong type, is NaN or
            infinite, or breaks a rule of `data.expect`.
    """
    for feature in schema.features:
        if feature.name not in columns:
            raise RowError(
                feature.name, f"is missing{_nearest(feature.name, columns)}; send every column of the schema"
            )
    if len(columns) > len(schema.features):
        _refuse_unknown(columns, schema)
    num_rows = len(columns[schema.features[0].name])
    arrays = []
    for feature in schema.features:
        values = columns[feature.name]
        if len(values) != num_rows:
            first = schema.features[0].name
            raise RowError(
                feature.name, f"holds {len(values)} values, but {first} holds {num_rows}; send as many of each"
            )
        arrays.append(_array(values, feature))
    conformed = pa.Table.from_arrays(arrays, names=list(schema.feature_names))
    _refuse_broken(conformed, schema)
    return conformed


def _refuse_broken(table: pa.Table, schema: TableSchema) -> None:
    """Values that `data.expect` kept out of training are not answered either."""
    broken = first_broken(table, schema.expect) if schema.expect else None
    if broken is not None:
        name, rule, row = broken
        value = repr(table.column(name)[row].as_py())
        shown = value if len(value) <= 60 else value[:57] + "..."
        wanted = expectation_text(schema.expect[name])
        raise RowError(name, f"= {shown} in row {row} {rule}; the model was trained on {wanted}", row)


@lru_cache(maxsize=256)
def arrow_type(name: str) -> pa.DataType:
    """The Arrow type that is spelled `name`, such as `int64`, `double` or `decimal128(10, 2)`."""
    match = _DECIMAL.match(name)
    if match is None:
        return pa.type_for_alias(name)
    make = {"32": pa.decimal32, "64": pa.decimal64, "128": pa.decimal128, "256": pa.decimal256}[match["bits"]]
    return make(int(match["precision"]), int(match["scale"]))


def nearest_name(name: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant, or None."""
    candidates = list(names)
    matches = difflib.get_close_matches(name, candidates, n=1) or [n for n in candidates if n.lower() == name.lower()]
    return matches[0] if matches else None


def _nearest(name: str, names: Iterable[str]) -> str:
    nearest = nearest_name(name, names)
    return f" (there is {nearest})" if nearest else ""


def _refuse_unknown(names: Iterable[str], schema: TableSchema) -> None:
    known = {*schema.feature_names, schema.target.name, *schema.non_features}
    for name in names:
        if name not in known:
            nearest = nearest_name(name, schema.feature_names)
            fix = f"did you mean {nearest}?" if nearest else "leave it out"
            raise RowError(name, f"is no column of the model; {fix}" + ("." if not nearest else " Rename it."))


def _family(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        return _family(kind.value_type)
    if pa.types.is_null(kind):
        return "null"
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "string"
    return str(kind)


def _cast(column: pa.ChunkedArray, feature: FeatureColumn) -> pa.ChunkedArray:
    target = arrow_type(feature.arrow_type)
    if feature.image is not None:
        return _images(column, feature, feature.image)
    if column.type == target or (pa.types.is_dictionary(column.type) and column.type.value_type == target):
        return column
    have, want = _family(column.type), _family(target)
    if have not in (want, "null"):
        raise RowError(feature.name, f"has type {column.type}, not {feature.arrow_type}; convert the column")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type) and not pa.types.is_floating(target):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    try:
        return column.cast(target)
    except pa.ArrowInvalid:
        row = _first_bad_row(column, target)
        value = column[row].as_py()
        problem = f"= {value!r} in row {row} is no {feature.arrow_type}; send {_wanted(feature)}"
        raise RowError(feature.name, problem, row) from None


def _first_bad_row(column: pa.ChunkedArray, target: pa.DataType) -> int:
    for row in range(len(column)):
        try:
            column.slice(row, 1).cast(target)
        except pa.ArrowInvalid:
            return row
    return 0


def _images(column: pa.ChunkedArray, feature: FeatureColumn, shape: ImageShape) -> pa.ChunkedArray:
    """The images as pixels, so that they are decoded once; what cannot be is refused, and does not count as missing."""
    column = bytes_of(column)
    if pa.types.is_null(column.type) or pa.types.is_large_binary(column.type) or pa.types.is_binary_view(column.type):
        column = column.cast(pa.binary())
    if not pa.types.is_binary(column.type):
        raise RowError(feature.name, f"has type {column.type}, not binary; send PNG or JPEG as they are")
    decoded = decode_column(column, shape)
    for row, problem in decoded.problems.items():
        raise RowError(feature.name, f"in row {row} {problem}; send {_wanted(feature)}", row)
    return pa.chunked_array([to_arrow(decoded)])


def _image_bytes(value: object, feature: FeatureColumn, row: int) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except ValueError:
            pass
    raise _bad_value(feature, value, row)


def _array(values: Sequence[object], feature: FeatureColumn) -> pa.Array:
    if feature.image is not None:
        encoded = pa.array([_image_bytes(value, feature, row) for row, value in enumerate(values)], type=pa.binary())
        return _images(pa.chunked_array([encoded]), feature, feature.image).combine_chunks()
    target = arrow_type(feature.arrow_type)
    checked = [_value(value, feature, target, row) for row, value in enumerate(values)]
    try:
        return pa.array(checked, type=target)
    except (pa.ArrowException, OverflowError, UnicodeError, ValueError):
        for row, value in enumerate(checked):
            try:
                pa.array([value], type=target)
            except (pa.ArrowException, OverflowError, UnicodeError, ValueError):
                raise _bad_value(feature, values[row], row) from None
        raise


def _value(value: object, feature: FeatureColumn, target: pa.DataType, row: int) -> object:
    if value is None:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if feature.kind == "boolean":
        if value is True or value is False:
            return value
        raise _bad_value(feature, value, row)
    if feature.kind == "category" and not pa.types.is_integer(target):
        if isinstance(value, str):
            return value
        raise _bad_value(feature, value, row)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _bad_value(feature, value, row)
    if isinstance(value, float) and not math.isfinite(value):
        raise _bad_value(feature, value, row)
    return _number(value, feature, target, row)


def _number(value: float, feature: FeatureColumn, target: pa.DataType, row: int) -> object:
    if pa.types.is_integer(target):
        if value != int(value):
            raise _bad_value(feature, value, row)
        return int(value)
    if pa.types.is_decimal(target):
        return pa.scalar(value).cast(target, safe=False).as_py() if isinstance(value, float) else value
    try:
        return float(value)
    except OverflowError:
        raise _bad_value(feature, value, row) from None


def _bad_value(feature: FeatureColumn, value: object, row: int) -> RowError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return RowError(feature.name, f"= {shown} in row {row} is no {feature.arrow_type}; send {_wanted(feature)}", row)


def _wanted(feature: FeatureColumn) -> str:
    if feature.kind == "image":
        return "a PNG or a JPEG, in JSON as base64, or null"
    if feature.kind == "boolean":
        return "true, false or null"
    if feature.kind == "category" and "string" in feature.arrow_type:
        return "a string or null"
    return "a whole number in range or null" if "int" in feature.arrow_type else "a finite number or null"
