"""What one writes by hand on Ray Data: `map_batches` for the statistics and for the encoding, then `write_parquet`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray import cloudpickle

from data_bench.pyarrow_program import merged, statistics
from data_bench.work import CATEGORIES, KEY, NUMBERS, SPLITS, TARGET, Fits, encode, split_labels


def run(source: Path, out: Path) -> None:
    """On the Ray session that is there."""
    columns = [*NUMBERS, *CATEGORIES, TARGET, KEY]
    data = ray.data.read_parquet(str(source), columns=columns)
    parts = data.map_batches(_statistics, batch_format="pyarrow", batch_size=None).take_all()
    fits = merged([cloudpickle.loads(part["part"]) for part in parts])
    encoded = data.map_batches(_encode, batch_format="pyarrow", batch_size=None, fn_kwargs={"fits": fits})
    encoded.write_parquet(str(out), partition_cols=["split"], compression="snappy")


def _statistics(table: pa.Table) -> dict[str, Any]:
    return {"part": [cloudpickle.dumps(statistics(table))]}


def _encode(table: pa.Table, fits: Fits) -> pa.Table:
    labels = split_labels(table.column(KEY).to_numpy())
    split = pa.DictionaryArray.from_arrays(pa.array(labels), pa.array(SPLITS)).cast(pa.string())
    return encode(table, fits).append_column("split", split)
