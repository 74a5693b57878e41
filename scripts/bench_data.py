"""Preparing a table: mlcluster against what one writes by hand, on the same work in one run.

    .venv/bin/python scripts/bench_data.py --adult ../shared/data/adult.parquet [--rows 1,5,20] [--repeats 3] \\
        [--engines pyarrow,ours,ours-ray,ours-1-node,ours-2-nodes,map-batches,sklearn] [--out data.json] [--check]

`data_bench/work.py` says what the work is. Each engine runs in a process of its own; CPU-seconds, wall and peak memory
are of all processes below it, imports and the start of a Ray session left out. `ours-1-node` and `ours-2-nodes` are
Ray clusters of so many nodes with one CPU each, processes of this machine. Engines take turns, and the table shows
medians. `--check` holds the shards of `pyarrow` and `ours` against an exact run.
"""

from __future__ import annotations

import argparse
import atexit
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench_files import provenance, say, write_document

ENGINES = ("pyarrow", "ours", "ours-ray", "ours-1-node", "ours-2-nodes", "map-batches", "sklearn")
BASELINE = "pyarrow"
# One table in memory at once is what scikit-learn needs: beyond this it has no room.
_SKLEARN_MILLIONS = 1
PACKAGES = ("mlcluster", "numpy", "pyarrow", "ray", "pandas", "scikit-learn")


def main() -> int:
    given = arguments()
    if given.child:
        print(json.dumps(run_child(given.child, given.source, given.folder)))
        return 0
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for millions in given.rows:
            source = Path(scratch) / f"adult-{millions:g}m.parquet"
            blow_up(given.adult, source, round(millions * 1e6))
            for repeat in range(given.repeats):
                for engine in given.engines:
                    if engine == "sklearn" and millions > _SKLEARN_MILLIONS:
                        continue
                    run = run_engine(engine, source, Path(scratch) / "out", is_checked=given.check and repeat == 0)
                    runs.append({"rows_millions": millions, "engine": engine, "repeat": repeat, **run})
                    say(line(runs[-1]))
                    if given.out:
                        write_document(given.out, {"provenance": provenance("bench_data.py", PACKAGES)}, runs)
            source.unlink()
    print("\n".join(table(runs)))
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adult", type=Path, help="the Adult table as Parquet")
    parser.add_argument("--rows", type=millions_of, default="1,5,20", help="millions of rows, with commas between them")
    parser.add_argument("--engines", type=engines_of, default=",".join(ENGINES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write all runs to this JSON file, after each")
    parser.add_argument("--check", action="store_true", help="hold the shards against an exact run")
    parser.add_argument("--child", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not given.child and not given.adult:
        parser.error("--adult is missing; name the Adult table")
    return given


def millions_of(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split(","))


def engines_of(text: str) -> tuple[str, ...]:
    unknown = [word for word in text.split(",") if word not in ENGINES]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is unknown; use some of {', '.join(ENGINES)}")
    return tuple(text.split(","))


def blow_up(adult: Path, path: Path, num_rows: int) -> None:
    from data_bench.table import blow_up as write

    say(f"writing {num_rows:,} rows")
    write(adult, path, num_rows)


def run_engine(engine: str, source: Path, out: Path, *, is_checked: bool) -> dict[str, Any]:
    """One engine in a process of its own."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, __file__, "--child", engine, "--source", str(source), "--folder", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{engine} failed ({done.returncode}):\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().split("\n")[-1])
    found["megabytes"] = sum(path.stat().st_size for path in out.rglob("*.parquet")) / 1e6
    if is_checked and (engine == BASELINE or engine.startswith("ours")):
        from data_bench.check import check

        found |= asdict(check(source, out))
    return found


def run_child(engine: str, source: Path, out: Path) -> dict[str, Any]:
    from data_bench.measure import measure

    if engine in ("ours-ray", "map-batches"):
        start_ray()
    elif engine in ("ours-1-node", "ours-2-nodes"):
        start_ray(num_nodes=int(engine.split("-")[1]))
    if engine == "pyarrow":
        from data_bench.pyarrow_program import run
    elif engine == "ours":
        from data_bench.own import run
    elif engine.startswith("ours-"):
        from data_bench.own import run_on_ray as run
    elif engine == "map-batches":
        from data_bench.map_batches import run
    else:
        from data_bench.sklearn_program import run
    return asdict(measure(lambda: run(source, out)))


def start_ray(num_nodes: int = 0) -> None:
    """A session of two CPUs, or so many nodes of one, warmed up: its workers have imported what they need."""
    import os

    import ray
    import ray.data

    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    os.environ["PYTHONPATH"] = paths
    if num_nodes:
        join_nodes(num_nodes)
    else:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=2**30)
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.range(4, override_num_blocks=4).map_batches(lambda batch: batch).materialize()


def join_nodes(num_nodes: int) -> None:
    """So many nodes of one CPU, each a raylet of its own with its own object store."""
    import ray
    from ray.cluster_utils import Cluster

    here = {"num_cpus": 1, "object_store_memory": 2**29}
    cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **here})
    for _ in range(num_nodes - 1):
        cluster.add_node(**here)
    ray.init(address=cluster.address, log_to_driver=False)
    atexit.register(ray.shutdown)  # before the nodes end, which the cluster has registered before


def line(run: dict[str, Any]) -> str:
    text = (
        f"{run['engine']:<12} {run['rows_millions']:g} M rows: {run['cpu_seconds']:.1f} CPU-s, "
        f"{run['wall_seconds']:.1f} s, peak {run['peak_mib']:.0f} MiB, {run['megabytes']:.0f} MB written"
    )
    if "differing_codes" in run:
        text += f"; {run['differing_codes']} codes differ, rank error {run['quantile_rank_error']:.1e}"
    return text


def table(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Medians over repeats, and ratios to the baseline of the same size."""
    lines = ["| rows | engine | CPU-s | to PyArrow's | wall s | peak MiB | MB |", "|---|---|---|---|---|---|---|"]
    for millions in dict.fromkeys(run["rows_millions"] for run in runs):
        here = [run for run in runs if run["rows_millions"] == millions]
        baseline = [run["cpu_seconds"] for run in here if run["engine"] == BASELINE]
        for engine in dict.fromkeys(run["engine"] for run in here):
            own = [run for run in here if run["engine"] == engine]
            cpu, wall, peak, size = (
                statistics.median(run[key] for run in own)
                for key in ("cpu_seconds", "wall_seconds", "peak_mib", "megabytes")
            )
            ratio = f"{cpu / statistics.median(baseline):.2f}" if baseline else "-"
            lines.append(f"| {millions:g} M | {engine} | {cpu:.1f} | {ratio} | {wall:.1f} | {peak:.0f} | {size:.0f} |")
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
