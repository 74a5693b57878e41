"""Trains nets on a core and on the GPU, and prints from which width on the GPU is cheaper: computed, and measured.

    .venv/bin/python scripts/bench_crossover.py [--cpu-hour 0.05] [--gpu-hour 0.35] [--rows 32768] [--columns 60]

A line is one net: the seconds of an epoch on each device, scores of the validation split included (the median over
segments of the epochs behind their first, on one thread), their dollars at the prices given (a GPU's worker pays for
its core, too), and both estimates. The last lines are the widths at which the dollars are equal, by the estimates and,
between two measured widths, by the measurements. Where torch can use no GPU, it says so and measures the core only.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mlcluster.cost import PriceBook, WorkerKind, cpu_workers, gpu_workers
from mlcluster.spec import Configuration, Device
from mlcluster.train import FAMILIES, CheckpointFolder, Matrices, Segment, TrainingData, run_segment, warm_up
from mlcluster.tune import first_on

FAMILY = FAMILIES["mlp"]
WIDTHS = (16, 32, 64, 128, 256, 512, 1024)
"""Beyond the search space, too: so that there is a crossover to see where a GPU is dear."""
BATCH_SIZES = (64, 256, 1024)
NUM_LAYERS = 3


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One net: seconds of an epoch, by device."""

    width: int
    measured: dict[Device, float]
    estimated: dict[Device, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu-hour", type=float, default=0.05, help="dollars of a core")
    parser.add_argument(
        "--gpu-hour", type=float, default=0.35, help="dollars of a GPU, without the core that drives it"
    )
    parser.add_argument("--rows", type=int, default=32_768, help="of the train split; a quarter as many are scored")
    parser.add_argument("--columns", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=3, help="of each segment; at least 2")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    if given.epochs < 2:
        parser.error(f"--epochs = {given.epochs} leaves no epoch behind the first; give 2 or more.")
    torch.set_num_threads(1)
    prices = PriceBook(cpu_usd_per_hour=given.cpu_hour, gpu_usd_per_hour=given.gpu_hour)
    kinds = (cpu_workers(prices, num_slots=1), gpu_workers(prices, num_slots=1))
    devices: tuple[Device, ...] = ("cpu", "gpu") if torch.cuda.is_available() else ("cpu",)
    gpu = torch.cuda.get_device_name() if "gpu" in devices else f"none that torch {torch.__version__} can use"
    print(f"GPU: {gpu}; {given.rows} rows, {given.columns} columns, {NUM_LAYERS} layers")
    for device in devices:
        warm_up([FAMILY.name], device)
    data = synthetic_data(given.rows, given.columns)
    print("| batch | width | CPU s | GPU s | CPU $ | GPU $ | CPU s by estimate | GPU s by estimate |")
    print("|---|---|---|---|---|---|---|---|")
    crossovers: list[str] = []
    for batch_size in BATCH_SIZES:
        epochs = []
        for width in WIDTHS:
            net = net_of(width, batch_size)
            measured = {one: seconds_of_epoch(net, data, one, given.epochs, given.repeats) for one in devices}
            epochs.append(Epoch(width=width, measured=measured, estimated=estimates(net, data)))
            print(f"| {batch_size} | {width} | {line(epochs[-1], kinds)} |", flush=True)
        crossovers.append(f"batch {batch_size}: {crossover_line(epochs, batch_size, data, kinds)}")
    print("\n".join(crossovers))


def net_of(width: int, batch_size: int) -> Configuration:
    sizes = {"num_layers": NUM_LAYERS, "width": width, "batch_size": batch_size}
    return {**sizes, "dropout": 0.1, "learning_rate": 2e-3, "weight_decay": 1e-4}


def synthetic_data(rows: int, columns: int) -> TrainingData:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(rows + rows // 4, columns)).astype(np.float32)
    targets = (features[:, 0] * features[:, 1] + 0.5 * rng.normal(size=len(features)) > 0).astype(np.int64)
    return TrainingData(
        task="binary",
        num_classes=2,
        train={"dense": Matrices(features=features[:rows], targets=targets[:rows])},
        validation={"dense": Matrices(features=features[rows:], targets=targets[rows:])},
    )


def seconds_of_epoch(net: Configuration, data: TrainingData, device: Device, epochs: int, repeats: int) -> float:
    """Median over segments; the first epoch of each, before which a learner is built and moved, is not counted."""
    segment = Segment(
        trial_id="t0000",
        family=FAMILY.name,
        configuration=net,
        seed=0,
        start_units=0,
        stop_units=epochs,
        limit_seconds=1e6,
        deadline=0.0,
        device=device,
    )
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeats):
            curve = run_segment(segment, data, CheckpointFolder(Path(folder)), metric="roc_auc").curve
            taken.append((curve[-1].seconds - curve[0].seconds) / (epochs - 1))
    return statistics.median(taken)


def estimates(net: Configuration, data: TrainingData) -> dict[Device, float]:
    size = data.size("dense")
    assert FAMILY.on_gpu is not None
    return {"cpu": FAMILY.nominal_seconds(net, size, 1), "gpu": FAMILY.on_gpu.nominal_seconds(net, size, 1)}


def line(epoch: Epoch, kinds: Sequence[WorkerKind]) -> str:
    seconds = [f"{epoch.measured[kind.name]:.4f}" if kind.name in epoch.measured else "-" for kind in kinds]
    usd = [
        f"{epoch.measured[kind.name] * kind.usd_per_second:.2e}" if kind.name in epoch.measured else "-"
        for kind in kinds
    ]
    return " | ".join([*seconds, *usd, *(f"{epoch.estimated[kind.name]:.4f}" for kind in kinds)])


def crossover_line(epochs: Sequence[Epoch], batch_size: int, data: TrainingData, kinds: Sequence[WorkerKind]) -> str:
    widths = range(WIDTHS[0], WIDTHS[-1] + 1)
    computed = first_on("gpu", widths, kinds, lambda width: estimates(net_of(width, batch_size), data))
    by_estimate = f"computed {width_text(computed)}"
    if "gpu" not in epochs[0].measured:
        return f"{by_estimate}; measured on the core only"
    return f"{by_estimate}; measured {width_text(measured_crossover(epochs, kinds))}"


def measured_crossover(epochs: Sequence[Epoch], kinds: Sequence[WorkerKind]) -> int | None:
    """Where the ratio of dollars is 1, on a straight line between logarithms; None where the widest is dearer there."""
    prices = {kind.name: kind.usd_per_second for kind in kinds}
    logs = [
        (math.log(one.width), math.log(one.measured["gpu"] * prices["gpu"] / (one.measured["cpu"] * prices["cpu"])))
        for one in epochs
    ]
    if logs[-1][1] > 0:
        return None
    for (width, ratio), (next_width, next_ratio) in zip(logs[-2::-1], logs[:0:-1], strict=True):
        if ratio > 0:
            return math.ceil(math.exp(width + (next_width - width) * ratio / (ratio - next_ratio)))
    return epochs[0].width


def width_text(width: int | None) -> str:
    return f"above width {WIDTHS[-1]}" if width is None else f"from width {width} on"


if __name__ == "__main__":
    main()
