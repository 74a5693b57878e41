"""The baseline: what a careful person writes with PyArrow and numpy alone, two threads over row groups."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_bench.work import (
    CATEGORIES,
    KEY,
    NUMBERS,
    SPLITS,
    TARGET,
    Fits,
    code_columns,
    dictionary,
    encode,
    fit_category,
    fit_number,
    split_labels,
)

GRID_POINTS = 2048


def run(source: Path, out: Path, num_threads: int = 2) -> None:
    """Fit on the train rows of `source`, and write every split's shards under `out`."""
    for split in SPLITS:
        (out / split).mkdir(parents=True)
    groups = range(pq.ParquetFile(source).num_row_groups)
    with ThreadPoolExecutor(num_threads) as pool:
        fits = merged(list(pool.map(lambda group: statistics(read(source, group)), groups)))
        list(pool.map(lambda group: write(read(source, group), fits, out, group), groups))


def read(source: Path, group: int) -> pa.Table:
    """One row group, its categories as dictionaries."""
    file = pq.ParquetFile(source, read_dictionary=[*CATEGORIES, TARGET])
    return file.read_row_group(group, [*NUMBERS, *CATEGORIES, TARGET, KEY], use_threads=False)


def statistics(table: pa.Table) -> dict[str, Any]:
    """A weighted grid of each number's values, and the rows of each level, over the train rows."""
    train = table.filter(pa.array(split_labels(table.column(KEY).to_numpy()) == 0))
    found: dict[str, Any] = {}
    for name in NUMBERS:
        values = train.column(name).cast(pa.float64()).to_numpy()
        found[name] = (*grid(values[~np.isnan(values)]), int(np.isnan(values).sum()))
    for name in CATEGORIES:
        encoded = dictionary(train.column(name))
        indices = encoded.indices.drop_null().to_numpy()
        counts = np.bincount(indices, minlength=len(encoded.dictionary))
        levels = dict(zip(encoded.dictionary.to_pylist(), counts.tolist(), strict=True))
        found[name] = (levels, encoded.indices.null_count)
    return found


def grid(values: Any) -> tuple[Any, Any]:
    """The distinct values and their rows, or 2,048 values of equal weight where there are more."""
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= GRID_POINTS:
        return distinct, counts.astype(np.float64)
    ends = np.cumsum(counts)
    cuts = np.searchsorted(ends, (np.arange(GRID_POINTS) + 0.5) / GRID_POINTS * ends[-1])
    return distinct[cuts], np.full(GRID_POINTS, ends[-1] / GRID_POINTS)


def merged(parts: list[dict[str, Any]]) -> Fits:
    """The fitted columns."""
    fits: dict[str, Any] = {}
    for name in NUMBERS:
        values = np.concatenate([part[name][0] for part in parts])
        weights = np.concatenate([part[name][1] for part in parts])
        order = np.argsort(values)
        values, weights = values[order], weights[order]
        reached = np.cumsum(weights)
        quantiles = [float(values[np.searchsorted(reached, share * reached[-1])]) for share in (0.01, 0.5, 0.99)]
        fits[name] = fit_number(quantiles, values, weights, sum(part[name][2] for part in parts))
    for name in CATEGORIES:
        counts: Counter[str] = Counter()
        for part in parts:
            counts.update(part[name][0])
        fits[name] = fit_category(counts, sum(part[name][1] for part in parts))
    return fits


def write(table: pa.Table, fits: Fits, out: Path, group: int) -> None:
    """Encode one row group into a shard of each split."""
    labels = split_labels(table.column(KEY).to_numpy())
    for label, split in enumerate(SPLITS):
        encoded = encode(table.filter(pa.array(labels == label)), fits)
        path = out / split / f"shard-{group:05d}.parquet"
        pq.write_table(encoded, path, compression="snappy", use_dictionary=code_columns(encoded.schema))
