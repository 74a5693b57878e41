"""Small files of rows, as people keep them: Parquet, CSV, or JSON as an object, a list, or objects by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from mlcluster.errors import DataError


def read_rows(path: Path) -> pa.Table | list[dict[str, Any]]:
    """A table, or for JSON a list of mappings, whose values wait for a schema.

    Raises:
        DataError: the file cannot be read, or holds no rows.
    """
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            return pq.read_table(path, partitioning=None)
        if path.suffix == ".csv":
            from pyarrow import csv

            return csv.read_csv(path, convert_options=csv.ConvertOptions(strings_can_be_null=True))
        if path.suffix in (".json", ".jsonl"):
            return _json_rows(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({str(error).splitlines()[0]}); give a file of rows.") from error
    raise DataError(f"{path} = {path.suffix or 'no suffix'} is no format that is read; use .parquet, .csv or .json.")


def _json_rows(text: str) -> list[dict[str, Any]]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = [json.loads(line) for line in text.splitlines() if line.strip()]
    rows = [value] if isinstance(value, dict) else value
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError("the JSON holds no rows; give an object, a list of objects, or one object a line.")
    return rows
