"""Adult, blown up: rows drawn again with missing values, a key, and a city of 20,000 levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_bench.work import CATEGORIES, KEY, NUMBERS, TARGET

NUM_CITIES = 20_000
GROUP_ROWS = 125_000
_MISSING = {"age": 0.04, "hours_per_week": 0.08, "education": 0.03, "occupation": 0.05, "city": 0.02}


def blow_up(adult: Path, path: Path, num_rows: int, seed: int = 0) -> None:
    """`num_rows` rows in row groups of 125,000, written group by group."""
    table = pq.read_table(adult)
    names = [*NUMBERS, *(name for name in CATEGORIES if name != "city"), TARGET]
    plain = [pa.string() if pa.types.is_large_string(table.schema.field(n).type) else pa.int64() for n in names]
    table = table.select(names).cast(pa.schema(list(zip(names, plain, strict=True))))
    rng = np.random.default_rng(seed)
    cities = pa.array([f"city {number}" for number in range(NUM_CITIES)])
    # As cities are: a few large ones and many small ones.
    shares = 1 / np.arange(1, NUM_CITIES + 1)
    shares /= shares.sum()
    writer = None
    for start in range(0, num_rows, GROUP_ROWS):
        count = min(GROUP_ROWS, num_rows - start)
        rows = table.take(pa.array(rng.integers(0, table.num_rows, count)))
        drawn = cities.take(pa.array(rng.choice(NUM_CITIES, count, p=shares)))
        rows = rows.append_column("city", drawn).append_column(KEY, pa.array(np.arange(start, start + count)))
        for name, share in _MISSING.items():
            column = rows.column(name).combine_chunks()
            holes = pa.array(rng.random(count) < share)
            filled = pa.compute.if_else(holes, pa.scalar(None, column.type), column)
            rows = rows.set_column(rows.column_names.index(name), name, filled)
        writer = writer or pq.ParquetWriter(path, rows.schema)
        writer.write_table(rows, row_group_size=count)
    if writer is not None:
        writer.close()
