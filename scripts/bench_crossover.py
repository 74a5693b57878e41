"""Trains nets on a core and on the GPU, and prints from which width on the GPU is cheaper: computed, and measured.

    .venv/bin/python scripts/bench_crossover.py [--family mlp] [--cpu-hour 0.05] [--gpu-hour 0.35] [--rows 32768]

A line is one net: the seconds of an epoch on each device, scores of the validation split included (the median over
segments of the epochs behind their first, on one thread), their dollars at the prices given (a GPU's worker pays for
its core, too), and both estimates. Then come the widths at which the dollars are equal, by the estimates and, between
two measured widths, by the measurements; and last how far the estimates are off. `--family conv` does the same for
images. Where torch can use no GPU, it says so and measures the core only.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mlcluster.cost import PriceBook, WorkerKind, cpu_workers, gpu_workers
from mlcluster.data import ImageShape
from mlcluster.spec import Configuration, Device
from mlcluster.train import FAMILIES, CheckpointFolder, Matrices, Segment, TrainingData, run_segment, warm_up
from mlcluster.tune import first_on


@dataclass(frozen=True, kw_only=True)
class Nets:
    """What is trained of a family."""

    family: str
    widths: tuple[int, ...]
    """Beyond the search space, too: so that there is a crossover to see where a GPU is dear."""
    batch_sizes: tuple[int, ...]
    depth: str
    """The hyperparameter that counts its layers."""

    def net(self, *, width: int, batch_size: int, num_layers: int) -> Configuration:
        sizes = {self.depth: num_layers, "width": width, "batch_size": batch_size}
        return {**sizes, "dropout": 0.1, "learning_rate": 2e-3, "weight_decay": 1e-4}


NETS = {
    "mlp": Nets(
        family="mlp", widths=(16, 32, 64, 128, 256, 512, 1024), batch_sizes=(64, 256, 1024), depth="num_layers"
    ),
    "conv": Nets(family="conv", widths=(8, 16, 32, 64), batch_sizes=(32, 128, 512), depth="num_blocks"),
}


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One net: seconds of an epoch, by device."""

    width: int
    measured: Mapping[Device, float]
    estimated: Mapping[Device, float]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """How nets of one family and depth are measured, on which data."""

    nets: Nets
    num_layers: int
    data: TrainingData
    epochs: int
    """Of each segment."""
    repeats: int

    def seconds_of_epoch(self, net: Configuration, device: Device) -> float:
        """Median over segments; the first epoch of each, before which a learner is built and moved, is not counted."""
        segment = Segment(
            trial_id="t0000",
            family=self.nets.family,
            configuration=net,
            seed=0,
            start_units=0,
            stop_units=self.epochs,
            limit_seconds=1e6,
            deadline=0.0,
            device=device,
        )
        taken = []
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(self.repeats):
                curve = run_segment(segment, self.data, CheckpointFolder(Path(folder)), metric="roc_auc").curve
                taken.append((curve[-1].seconds - curve[0].seconds) / (self.epochs - 1))
        return statistics.median(taken)

    def estimates(self, net: Configuration) -> dict[Device, float]:
        family, size = FAMILIES[self.nets.family], self.data.size("dense")
        assert family.on_gpu is not None
        return {"cpu": family.nominal_seconds(net, size, 1), "gpu": family.on_gpu.nominal_seconds(net, size, 1)}

    def epoch(self, width: int, batch_size: int, devices: Sequence[Device]) -> Epoch:
        net = self.net(width, batch_size)
        measured = {device: self.seconds_of_epoch(net, device) for device in devices}
        return Epoch(width=width, measured=measured, estimated=self.estimates(net))

    def net(self, width: int, batch_size: int) -> Configuration:
        return self.nets.net(width=width, batch_size=batch_size, num_layers=self.num_layers)


def main() -> None:
    given = arguments()
    torch.set_num_threads(1)
    prices = PriceBook(cpu_usd_per_hour=given.cpu_hour, gpu_usd_per_hour=given.gpu_hour)
    kinds = (cpu_workers(prices, num_slots=1), gpu_workers(prices, num_slots=1))
    devices: tuple[Device, ...] = ("cpu", "gpu") if torch.cuda.is_available() else ("cpu",)
    nets = NETS[given.family]
    rows = image_rows(given.rows, given.side) if given.family == "conv" else table_rows(given.rows, given.columns)
    bench = Bench(nets=nets, num_layers=given.layers, data=rows, epochs=given.epochs, repeats=given.repeats)
    gpu = torch.cuda.get_device_name() if "gpu" in devices else f"none that torch {torch.__version__} can use"
    columns = rows.size("dense").columns
    print(f"GPU: {gpu}; {nets.family}: {given.rows} rows, {columns} columns, {nets.depth} {given.layers}")
    for device in devices:
        warm_up([nets.family], device)
    print("| batch | width | CPU s | GPU s | CPU $ | GPU $ | CPU s by estimate | GPU s by estimate |")
    print("|---|---|---|---|---|---|---|---|")
    by_batch_size: dict[int, list[Epoch]] = {}
    for batch_size in nets.batch_sizes:
        for width in nets.widths:
            epoch = bench.epoch(width, batch_size, devices)
            by_batch_size.setdefault(batch_size, []).append(epoch)
            print(f"| {batch_size} | {width} | {line(epoch, kinds)} |", flush=True)
    for batch_size, epochs in by_batch_size.items():
        print(f"batch {batch_size}: {crossover_line(bench, epochs, batch_size, kinds)}")
    every = [epoch for epochs in by_batch_size.values() for epoch in epochs]
    print("\n".join(error_line(every, device) for device in devices))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=NETS, default="mlp")
    parser.add_argument("--cpu-hour", type=float, default=0.05, help="dollars of a core")
    parser.add_argument(
        "--gpu-hour", type=float, default=0.35, help="dollars of a GPU, without the core that drives it"
    )
    parser.add_argument("--rows", type=int, default=32_768, help="of the train split; a quarter as many are scored")
    parser.add_argument("--columns", type=int, default=60, help="of mlp's table")
    parser.add_argument("--side", type=int, default=28, help="of conv's square images in grey, in pixels")
    parser.add_argument("--layers", type=int, default=3, help="hidden layers of mlp, blocks of conv; at least 1")
    parser.add_argument("--epochs", type=int, default=3, help="of each segment; at least 2")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    if given.epochs < 2:
        parser.error(f"--epochs = {given.epochs} leaves no epoch behind the first; give 2 or more.")
    if given.layers < 1:
        parser.error(f"--layers = {given.layers} leaves no layer of any width; give 1 or more.")
    return given


def table_rows(rows: int, columns: int) -> TrainingData:
    """Whether two columns have the same sign, with noise."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(rows + rows // 4, columns)).astype(np.float32)
    targets = (features[:, 0] * features[:, 1] + 0.5 * rng.normal(size=len(features)) > 0).astype(np.int64)
    return training_data(features, targets, rows, image=None)


def image_rows(rows: int, side: int) -> TrainingData:
    """Noise, which is brighter in its upper half in one class."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, size=rows + rows // 4)
    features = rng.normal(size=(len(targets), side * side)).astype(np.float32)
    features[:, : side * side // 2] += 0.1 * targets[:, None]
    return training_data(features, targets, rows, image=ImageShape(height=side, width=side, channels=1))


def training_data(
    features: npt.NDArray[np.float32], targets: npt.NDArray[np.int64], rows: int, image: ImageShape | None
) -> TrainingData:
    """The first `rows` are the train split."""
    return TrainingData(
        task="binary",
        num_classes=2,
        train={"dense": Matrices(features=features[:rows], targets=targets[:rows])},
        validation={"dense": Matrices(features=features[rows:], targets=targets[rows:])},
        image=image,
    )


def line(epoch: Epoch, kinds: Sequence[WorkerKind]) -> str:
    seconds = [f"{epoch.measured[kind.name]:.4f}" if kind.name in epoch.measured else "-" for kind in kinds]
    usd = [
        f"{epoch.measured[kind.name] * kind.usd_per_second:.2e}" if kind.name in epoch.measured else "-"
        for kind in kinds
    ]
    return " | ".join([*seconds, *usd, *(f"{epoch.estimated[kind.name]:.4f}" for kind in kinds)])


def crossover_line(bench: Bench, epochs: Sequence[Epoch], batch_size: int, kinds: Sequence[WorkerKind]) -> str:
    first, last = bench.nets.widths[0], bench.nets.widths[-1]
    computed = first_on(
        "gpu", range(first, last + 1), kinds, lambda width: bench.estimates(bench.net(width, batch_size))
    )
    by_estimate = f"computed {width_text(computed, last)}"
    if "gpu" not in epochs[0].measured:
        return f"{by_estimate}; measured on the core only"
    return f"{by_estimate}; measured {width_text(measured_crossover(epochs, kinds), last)}"


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


def width_text(width: int | None, last: int) -> str:
    return f"above width {last}" if width is None else f"from width {width} on"


def error_line(epochs: Sequence[Epoch], device: Device) -> str:
    """How far a device's estimates are off, as factors; the log error is one sigma."""
    logs = [math.log(one.measured[device] / one.estimated[device]) for one in epochs]
    typical, lowest, highest = (math.exp(value) for value in (statistics.median(logs), min(logs), max(logs)))
    return (
        f"{device}: measured is {typical:.2f} times the estimate in the median ({lowest:.2f} to {highest:.2f}), "
        f"log error {statistics.pstdev(logs):.2f}"
    )


if __name__ == "__main__":
    main()
