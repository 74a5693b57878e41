"""Feeding prepared data to torch: rows per second of mlcluster's batches, of a loop written by hand, and of Ray Data.

    .venv/bin/python scripts/bench_feeding.py --adult ../shared/data/adult.parquet [--rows 2] [--repeats 5] \\
        [--feeders plain,ours,ours-shuffled,ray] [--out feeding.json]

The Adult table is blown up and prepared once (`mlcluster data prepare`); every feeder then reads the train shards and
hands on batches of 1,024 rows as one float32 tensor and one of targets, whose sums are taken so that each row is
looked at. The loop by hand reads a shard, stacks its columns, and slices the tensor, without shuffling. Feeders take
turns, torch has one thread; medians, and the median of the ratios to the loop by hand in the same turn.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from bench_files import provenance, say, write_document
from data_bench.table import blow_up
from data_bench.work import KEY, SEED, TARGET

from mlcluster.data import LocalEngine, Shards, prepare_shards
from mlcluster.spec import DataSpec
from mlcluster.train import Shuffle, TorchBatches

BATCH_ROWS = 1024
PACKAGES = ("mlcluster", "numpy", "pyarrow", "ray", "torch")
Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]


def plain(shards: Shards) -> Batches:
    """What one writes by hand."""
    for path in shards.paths("train"):
        table = pq.read_table(path)
        *features, target = (torch.from_numpy(column.to_numpy().copy()) for column in table.columns)
        matrix = torch.stack([each.float() for each in features], dim=1)
        classes = target.long()
        for start in range(0, len(classes), BATCH_ROWS):
            yield matrix[start : start + BATCH_ROWS], classes[start : start + BATCH_ROWS]


def ours(shards: Shards) -> Batches:
    yield from TorchBatches(shards, "train", batch_size=BATCH_ROWS)


def ours_shuffled(shards: Shards) -> Batches:
    yield from TorchBatches(shards, "train", batch_size=BATCH_ROWS, shuffle=Shuffle(seed=SEED))


def with_ray(shards: Shards) -> Batches:
    import ray.data

    dataset = ray.data.read_parquet([str(path) for path in shards.paths("train")])
    names = list(shards.transform.output_names)
    for batch in dataset.iter_torch_batches(batch_size=BATCH_ROWS):
        yield torch.stack([batch[name].float() for name in names], dim=1), batch[TARGET].long()


FEEDERS: dict[str, Callable[[Shards], Batches]] = {
    "plain": plain,
    "ours": ours,
    "ours-shuffled": ours_shuffled,
    "ray": with_ray,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adult", type=Path, required=True, help="the Adult table as Parquet")
    parser.add_argument("--rows", type=float, default=2.0, help="millions of rows")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--feeders", default=",".join(FEEDERS))
    parser.add_argument("--out", type=Path, help="write all runs to this JSON file")
    given = parser.parse_args()
    feeders = given.feeders.split(",")
    # Threads of torch that wait for each other on a busy machine would count against whoever stacks tensors.
    torch.set_num_threads(1)
    if unknown := sorted({*feeders} - {*FEEDERS}):
        parser.error(f"--feeders = {unknown[0]} is unknown; use some of {', '.join(FEEDERS)}")
    if "ray" in feeders:
        from bench_data import start_ray

        start_ray()
    with tempfile.TemporaryDirectory() as scratch:
        shards = prepared(given.adult, Path(scratch), round(given.rows * 1e6))
        runs = [
            {"repeat": repeat, "feeder": feeder, **fed(feeder, shards)}
            for repeat in range(given.repeats)
            for feeder in feeders
        ]
    if given.out:
        write_document(given.out, {"provenance": provenance("bench_feeding.py", PACKAGES)}, runs)
    print("\n".join(table(runs, feeders)))
    return 0


def prepared(adult: Path, scratch: Path, num_rows: int) -> Shards:
    say(f"preparing {num_rows:,} rows")
    blow_up(adult, scratch / "adult.parquet", num_rows)
    spec = DataSpec(source="adult.parquet", target=TARGET, key=KEY)
    return prepare_shards(spec, base=scratch, folder=scratch / "ready", seed=SEED, engine=LocalEngine(2))


def fed(feeder: str, shards: Shards) -> dict[str, Any]:
    """One pass over the train split, every row looked at."""
    started, cpu, num_rows, total = time.perf_counter(), time.process_time(), 0, 0.0
    for features, target in FEEDERS[feeder](shards):
        num_rows += len(target)
        total += float(features.sum()) + float(target.sum())
    seconds = time.perf_counter() - started
    if num_rows != shards.num_rows["train"]:
        raise SystemExit(f"{feeder} gave {num_rows} of {shards.num_rows['train']} rows")
    run = {"rows_per_second": num_rows / seconds, "cpu_seconds": time.process_time() - cpu, "sum": total}
    say(f"{feeder:<14} {run['rows_per_second'] / 1e6:.2f} M rows/s, {run['cpu_seconds']:.2f} CPU-s")
    return run


def table(runs: list[dict[str, Any]], feeders: list[str]) -> list[str]:
    lines = ["| feeder | M rows/s | to the loop by hand | CPU-s of this process |", "|---|---|---|---|"]
    speed = {(run["feeder"], run["repeat"]): run["rows_per_second"] for run in runs}
    for feeder in feeders:
        own = [run for run in runs if run["feeder"] == feeder]
        ratios = [
            run["rows_per_second"] / speed["plain", run["repeat"]] for run in own if ("plain", run["repeat"]) in speed
        ]
        ratio = f"{statistics.median(ratios):.2f}" if ratios else "-"
        rate, cpu = (statistics.median(run[key] for run in own) for key in ("rows_per_second", "cpu_seconds"))
        lines.append(f"| {feeder} | {rate / 1e6:.2f} | {ratio} | {cpu:.2f} |")
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
