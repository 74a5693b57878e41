"""Whether an engine's shards hold what an exact run gives: codes and flags the same, numbers within a rank error."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from data_bench.work import CATEGORIES, KEY, NUMBERS, SPLITS, TARGET, encode, fit_category, fit_number, split_labels


@dataclass(frozen=True, kw_only=True)
class Exactness:
    """How far shards are from an exact run."""

    num_rows: dict[str, int]
    differing_codes: int
    """Values of codes, flags and target that differ, over all rows of all splits."""
    quantile_rank_error: float
    """The largest |rank - asked for| of the three quantiles of a column, read off the encoded numbers."""


def check(source: Path, folder: Path) -> Exactness:
    """Hold the shards of `folder` against an exact run over `source`, a column at a time."""
    keys = pq.read_table(source, columns=[KEY]).column(KEY).to_numpy()
    labels = split_labels(keys)
    schema = ds.dataset(folder / "train", format="parquet").schema
    names = schema.names
    differing, error = 0, 0.0
    for name in (*NUMBERS, *CATEGORIES):
        raw = pq.read_table(source, columns=[name, TARGET], read_dictionary=[*CATEGORIES, TARGET])
        train = raw.filter(pa.array(labels == 0))
        fit = _exact_fit(name, train.column(name))
        outputs = [each for each in names if each == name or each.startswith((f"{name}=", f"{name}:"))]
        for label, split in enumerate(SPLITS):
            exact = encode(raw.filter(pa.array(labels == label)), {name: fit})
            found = pq.read_table(folder / split, columns=[*outputs, TARGET], partitioning=None)
            for output in [*outputs, TARGET]:
                if output == name and name in NUMBERS:
                    continue
                differing += int((found.column(output).to_numpy() != exact.column(output).to_numpy()).sum())
        if name in NUMBERS:
            encoded = pq.read_table(folder / "train", columns=[name], partitioning=None).column(name).to_numpy()
            error = max(error, _rank_error(train.column(name), encoded))
    rows = {split: ds.dataset(folder / split, format="parquet").count_rows() for split in SPLITS}
    return Exactness(num_rows=rows, differing_codes=differing, quantile_rank_error=error)


def _exact_fit(name: str, column: pa.ChunkedArray) -> Any:
    if name in CATEGORIES:
        counts = pa.compute.value_counts(column.cast(pa.string()).drop_null()).to_pylist()
        return fit_category({each["values"]: each["counts"] for each in counts}, column.null_count)
    values, weights = np.unique(column.drop_null().to_numpy(), return_counts=True)
    reached = np.cumsum(weights)
    quantiles = [float(values[np.searchsorted(reached, share * reached[-1])]) for share in (0.01, 0.5, 0.99)]
    return fit_number(quantiles, values, weights, column.null_count)


def _rank_error(column: pa.ChunkedArray, encoded: Any) -> float:
    """Encoding leaves its mark: rows at either end stand at a quantile, and rows without a value at the median."""
    present = column.is_valid().to_numpy()
    values, held = column.drop_null().to_numpy(), encoded[present]
    marks = [(0.01, values[held == held.min()].max()), (0.99, values[held == held.max()].min())]
    if not present.all() and (held == encoded[~present][0]).any():
        marks.append((0.5, values[held == encoded[~present][0]][0]))
    errors = [max((values < cut).mean() - share, share - (values <= cut).mean(), 0.0) for share, cut in marks]
    return float(max(errors))
