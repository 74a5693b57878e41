"""MLflow's scoring protocol: four forms of JSON, and CSV, brought to columns.

The forms are those of `mlflow models serve`. Where MLflow guesses, this refuses: a column that one row lacks, a member
that no form has, a row of another length.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlcluster.serve.json_body import json_type, parse_object, refuse_unknown
from mlcluster.serve.problem import invalid, malformed
from mlcluster.serve.tensors import TensorSpec, flatten

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
Columns = dict[str, list[Any]]


def parse_json_invocation(body: bytes, names: Sequence[str]) -> Columns:
    """Values by column, None for missing; `names` are the model's columns, for rows that carry none.

    Raises:
        RequestError: 400 for what cannot be read, 422 naming the member that is wrong.
    """
    return columns_of_invocation(parse_object(body), names)


def columns_of_invocation(request: Mapping[str, Any], names: Sequence[str]) -> Columns:
    """The same, from the object that the body holds."""
    given = [form for form in FORMS if form in request]
    if len(given) != 1:
        got = f"has {' and '.join(given)}" if given else "has none of them"
        raise malformed(f"The body {got}; send exactly one of {', '.join(FORMS)}.")
    refuse_unknown(request, (*FORMS, "params"), where="an invocation")
    if not isinstance(request.get("params", {}), dict | None):
        raise invalid("params", f"is {json_type(request['params'])}; send an object, or leave it out.")
    form = given[0]
    if form == "dataframe_split":
        return _from_split(request[form])
    if form == "dataframe_records":
        return _from_records(form, request[form])
    if form == "inputs" and isinstance(request[form], dict):
        return _from_columns(request[form])
    return _from_rows(form, request[form], names)


def parse_csv_invocation(body: bytes, specs: Sequence[TensorSpec]) -> Columns:
    """Values by column from CSV with a header; an empty cell is missing.

    Raises:
        RequestError: 400 for what cannot be read, 422 for a row of another length than the header.
    """
    try:
        reader = csv.reader(io.StringIO(body.decode("utf-8"), newline=""), strict=True)
        rows = [row for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise malformed(f"The body is not CSV in UTF-8 ({error}); send a header and one line a row.") from error
    if not rows:
        raise malformed("The body is empty; send a header and one line a row.")
    header, *lines = rows
    refuse_repeated(header)
    readers = {spec.name: _CELL_READERS.get(spec.datatype, _read_number) for spec in specs}
    columns: Columns = {name: [] for name in header}
    for index, line in enumerate(lines):
        if len(line) != len(header):
            raise invalid(f"row {index}", f"has {len(line)} cells, the header has {len(header)}; send as many.")
        for name, cell in zip(header, line, strict=True):
            columns[name].append(readers[name](cell) if cell and name in readers else cell or None)
    return columns


def _read_number(cell: str) -> Any:
    """The number in a cell, or the text as it is, for the schema to refuse by name."""
    # Python reads 1_000 as a number; no writer of CSV means that.
    for parse in () if "_" in cell else (int, float):
        try:
            return parse(cell)
        except ValueError:
            continue
    return cell


def _read_boolean(cell: str) -> Any:
    return {"true": True, "false": False, "1": True, "0": False}.get(cell.strip().lower(), cell)


_CELL_READERS: Mapping[str, Callable[[str], Any]] = {"BYTES": str, "BOOL": _read_boolean}


def _from_split(value: object) -> Columns:
    name = "dataframe_split"
    if not isinstance(value, dict):
        raise invalid(name, f"is {json_type(value)}; send an object with columns and data.")
    refuse_unknown(value, ("columns", "data", "index", "dtypes"), where=name)
    header, rows = value.get("columns"), value.get("data")
    if not isinstance(header, list) or not all(isinstance(column, str) for column in header):
        raise invalid("columns", "is no list of names; send the names of the columns.")
    if not isinstance(rows, list):
        raise invalid("data", f"is {json_type(rows)}; send a list of rows.")
    refuse_repeated(header)
    return _transpose("data", rows, header)


def _from_records(form: str, rows: object) -> Columns:
    if not isinstance(rows, list):
        raise invalid(form, f"is {json_type(rows)}; send a list of objects, one a row.")
    if not rows:
        raise invalid(form, "holds no row; send at least one.")
    columns: Columns = {}
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise invalid(form, f"holds {json_type(row)} as row {index}; send one object a row.")
        if index == 0:
            columns = {name: [] for name in row}
        if row.keys() != columns.keys():
            odd = next(iter(row.keys() ^ columns.keys()))
            raise invalid(odd, f"stands in row 0 or in row {index}, but not in both; send null for what is missing.")
        for name, cell in row.items():
            columns[name].append(cell)
    return columns


def _from_rows(form: str, rows: object, names: Sequence[str]) -> Columns:
    if not isinstance(rows, list):
        raise invalid(form, f"is {json_type(rows)}; send a list of rows, or an object with one list a column.")
    if rows and isinstance(rows[0], list):
        return _transpose(form, rows, names)
    return _from_records(form, rows)


def _from_columns(value: Mapping[str, object]) -> Columns:
    """Columns of values, each given flat or as one list a row; scalars only are one row."""
    if value and not any(isinstance(item, list) for item in value.values()):
        return {name: [item] for name, item in value.items()}
    return {name: flatten(name, item) for name, item in value.items()}


def _transpose(form: str, rows: Sequence[object], names: Sequence[str]) -> Columns:
    for index, row in enumerate(rows):
        if not isinstance(row, list):
            raise invalid(form, f"holds {json_type(row)} as row {index}; send one list a row.")
        if len(row) != len(names):
            raise invalid(form, f"has {len(row)} values in row {index}; send {len(names)}, one a column.")
    return {name: [row[at] for row in rows if isinstance(row, list)] for at, name in enumerate(names)}


def refuse_repeated(header: Sequence[str]) -> None:
    """Nothing, if each name stands once among the columns.

    Raises:
        RequestError: 422 naming one that stands twice.
    """
    seen: set[str] = set()
    for name in header:
        if name in seen:
            raise invalid(name, "stands twice among the columns; send it once.")
        seen.add(name)
