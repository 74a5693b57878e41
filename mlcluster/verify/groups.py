"""The groups that a column parts the test rows into."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlcluster.data.transform import dictionary_of

MAX_GROUPS = 100
MISSING = "missing"


def groups_of(table: pa.Table, column: str) -> dict[str, npt.NDArray[np.int64]] | str:
    """The rows of each value of the column, by its text, in its order; missing values are a group. Else why not."""
    if column not in table.schema.names:
        return f"the test split has no column {column!r}"
    values = table.column(column)
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    encoded = dictionary_of(values)
    levels = encoded.dictionary.to_pylist()
    if len(levels) > MAX_GROUPS:
        return f"{column} has {len(levels)} values, {MAX_GROUPS} groups at most"
    codes = pc.fill_null(encoded.indices, len(levels)).to_numpy(zero_copy_only=False)
    labels = [str(level) for level in levels]
    labels.append(f"{MISSING} (null)" if MISSING in labels else MISSING)
    by_label = {label: np.flatnonzero(codes == code) for code, label in enumerate(labels)}
    return {label: by_label[label] for label in sorted(by_label) if len(by_label[label])}
