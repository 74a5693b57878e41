"""Label functions: a person's rules of thumb, as Python that labels many rows at once."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlcluster.data.labels.answers import label_words
from mlcluster.data.labels.votes import ABSTAINED, Codes
from mlcluster.data.schema import TargetColumn
from mlcluster.errors import DataError

ABSTAIN = None
"""What a label function returns for a row that it says nothing about."""

Columns = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelFunction:
    """A named rule; calling it calls the rule."""

    name: str
    rule: Callable[[Columns], Any]

    def __call__(self, columns: Columns) -> Any:
        return self.rule(columns)


def label_function(rule: Callable[[Columns], Any]) -> LabelFunction:
    """Makes a rule a label function, found by `data.labels.functions`.

    The rule takes columns by name, each a numpy array (n,) of a block's rows (text as objects, numbers with NaN for
    missing), and returns n classes as the target spells them, `ABSTAIN` where it has none:
    `np.where(columns["hours"] > 60, "over 50K", ABSTAIN)`.
    """
    return LabelFunction(name=rule.__name__, rule=rule)


def load_functions(path: Path) -> tuple[LabelFunction, ...]:
    """The label functions of a Python file, which is run, in the order in which they stand.

    Raises:
        DataError: there is no such file, it fails, or it holds no label function.
    """
    key = f"data.labels.functions = {path.name}"
    if not path.is_file():
        raise DataError(f"{key} is no file; its path is relative to the project file.")
    module_spec = importlib.util.spec_from_file_location(f"_label_functions_{path.stem}", path)
    if module_spec is None or module_spec.loader is None:
        raise DataError(f"{key} is no Python file; give one that ends in .py.")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise DataError(f"{key} fails when it is run ({type(error).__name__}: {error}); correct it.") from error
    found = tuple(value for value in vars(module).values() if isinstance(value, LabelFunction))
    if not found:
        raise DataError(f"{key} holds no label function; decorate one with mlcluster.data.labels.label_function.")
    return found


def apply_functions(functions: Sequence[LabelFunction], table: pa.Table, target: TargetColumn) -> Codes:
    """The class index that each function gives each row, (n, m), `ABSTAINED` for none. They do not see the target.

    Raises:
        DataError: a function fails, or returns something other than n known classes.
    """
    columns = {
        name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names if name != target.name
    }
    codes = np.full((table.num_rows, len(functions)), ABSTAINED, dtype=np.int64)
    for index, function in enumerate(functions):
        try:
            given = np.asarray(function(columns), dtype=object)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise DataError(f"data.labels.functions = {function.name} fails ({reason}); correct it.") from error
        if given.shape != (table.num_rows,):
            raise DataError(
                f"data.labels.functions = {function.name} returns shape {given.shape} for {table.num_rows} rows; "
                "return one class or ABSTAIN a row."
            )
        codes[:, index] = _codes(given, function.name, target)
    return codes


def _codes(given: np.ndarray[Any, np.dtype[Any]], name: str, target: TargetColumn) -> Codes:
    words = label_words(target)
    index = {label: place for place, label in enumerate(target.classes)}
    texts = pa.array([None if _is_silence(value) else str(value) for value in given], pa.string())
    encoded = pc.dictionary_encode(texts)
    levels = encoded.dictionary.to_pylist()
    unknown = next((level for level in levels if level not in words), None)
    if unknown is not None:
        known = ", ".join(map(str, target.classes[:10]))
        raise DataError(f"data.labels.functions = {name} returns {unknown!r}, which is no class; use one of {known}.")
    table = np.array([*(index[words[level]] for level in levels), ABSTAINED], dtype=np.int64)
    return np.asarray(table[pc.fill_null(encoded.indices, len(levels)).to_numpy(zero_copy_only=False)])


def _is_silence(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
