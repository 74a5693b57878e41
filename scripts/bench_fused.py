"""Trains K nets together and one after the other, on the same data in one run, and prints how much faster that is.

    .venv/bin/python scripts/bench_fused.py [--rows 8192] [--columns 30] [--epochs 3] [--repeats 3] [--task binary]

Whole segments are timed, validation scores and checkpoints included, on one thread; a ratio is of medians. `estimate`
is what the cost model would have said beforehand, `difference` the largest between the validation scores of a net that
was trained in the batch and of the same net alone, and `rounding` that between the net alone and itself when its first
weights are off by one part in ten million: AdamW and ReLU magnify either, sooner in wide nets. The last lines are K
configurations drawn from the search space, put into groups by the estimate.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mlcluster.data.schema import TaskKind
from mlcluster.spec import Configuration
from mlcluster.train import (
    FAMILIES,
    CheckpointFolder,
    Matrices,
    Segment,
    Span,
    TrainingData,
    best_grouping,
    load_learner,
    run_segment,
    run_segments,
    warm_up,
)
from mlcluster.train.dense import DenseLearner

FAMILY = FAMILIES["mlp"]
METRIC: dict[TaskKind, str] = {"binary": "roc_auc", "regression": "r2"}
GRID = [
    (width, batch_size, count)
    for width, batch_size in ((16, 64), (32, 64), (32, 256), (64, 128), (64, 1024), (128, 256), (256, 256), (256, 1024))
    for count in (2, 8, 32)
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8192, help="of the train split; a quarter as many are scored")
    parser.add_argument("--columns", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--task", choices=sorted(METRIC), default="binary")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warm_up(["mlp"])
    data = synthetic_data(given.rows, given.columns, given.task)
    print("| width | layers | batch | K | alone s | together s | ratio | estimate | difference | rounding |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for width, batch_size, count in GRID:
        configuration = net(width=width, batch_size=batch_size)
        line = compare([configuration] * count, data, epochs=given.epochs, repeats=given.repeats)
        print(f"| {width} | {configuration['num_layers']} | {batch_size} | {count} | {line}", flush=True)
    for count in (4, 8, 16):
        drawn = draw(count)
        line = compare(drawn, data, epochs=given.epochs, repeats=given.repeats)
        num_groups = len(groups_of(drawn, data, given.epochs))
        print(f"| 16..256 | 1..3 | 64..1024 | {count} in {num_groups} | {line}", flush=True)


def net(*, width: int, batch_size: int) -> Configuration:
    return {
        "num_layers": 2,
        "width": width,
        "dropout": 0.1,
        "batch_size": batch_size,
        "learning_rate": 2e-3,
        "weight_decay": 1e-4,
    }


def draw(count: int) -> list[Configuration]:
    """Even draws from the family's search space."""
    rng = np.random.default_rng(0)
    return [{name: domain.at(float(rng.random())) for name, domain in FAMILY.space.items()} for _ in range(count)]


def synthetic_data(rows: int, columns: int, task: TaskKind) -> TrainingData:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(rows + rows // 4, columns)).astype(np.float32)
    values = features[:, 0] * features[:, 1] + np.sin(2 * features[:, 2]) + 0.5 * rng.normal(size=len(features))
    targets = values.astype(np.float64) if task == "regression" else (values > 0).astype(np.int64)
    train = Matrices(features=features[:rows], targets=targets[:rows])
    validation = Matrices(features=features[rows:], targets=targets[rows:])
    return TrainingData(
        task=task,
        num_classes=0 if task == "regression" else 2,
        train={"dense": train},
        validation={"dense": validation},
    )


def groups_of(configurations: Sequence[Configuration], data: TrainingData, epochs: int) -> list[tuple[int, ...]]:
    spans = [Span(configuration=each, start_units=0, stop_units=epochs) for each in configurations]
    return best_grouping(lambda group: nominal_seconds(group, data), spans)


def nominal_seconds(spans: Sequence[Span], data: TrainingData) -> float:
    assert FAMILY.together is not None
    return FAMILY.together.nominal_seconds(spans, data.size("dense"))


def compare(configurations: list[Configuration], data: TrainingData, *, epochs: int, repeats: int) -> str:
    """The cells of a line. Equal configurations are one group, whatever the estimate says; others are grouped by it."""
    spans = [Span(configuration=each, start_units=0, stop_units=epochs) for each in configurations]
    is_mixed = any(each != configurations[0] for each in configurations)
    everyone = tuple(range(len(spans)))
    groups = groups_of(configurations, data, epochs) if is_mixed else [everyone]
    estimate = sum(nominal_seconds([span], data) for span in spans) / sum(
        nominal_seconds([spans[index] for index in group], data) for group in groups
    )
    segments = [segment_of(place, span) for place, span in enumerate(spans)]
    metric = METRIC[data.task]
    with tempfile.TemporaryDirectory() as folder:
        alone, together = (CheckpointFolder(Path(folder) / name) for name in ("alone", "together"))
        seconds: list[tuple[float, float]] = []
        for _ in range(repeats):
            one_by_one = timed(lambda: [run_segment(each, data, alone, metric=metric) for each in segments])
            as_groups = timed(
                lambda: [run_segments([segments[i] for i in group], data, together, metric=metric) for group in groups]
            )
            seconds.append((one_by_one, as_groups))
        difference = max(scores_apart(segment, data, alone, together) for segment in segments)
        rounding = max(scores_off_by_rounding(segment, data, alone) for segment in segments)
    apart, joined = (statistics.median(column) for column in zip(*seconds, strict=True))
    return f"{apart:.2f} | {joined:.2f} | {apart / joined:.1f} | {estimate:.1f} | {difference:.0e} | {rounding:.0e} |"


def segment_of(place: int, span: Span) -> Segment:
    return Segment(
        trial_id=f"t{place:04d}",
        family=FAMILY.name,
        configuration=span.configuration,
        seed=place,
        start_units=span.start_units,
        stop_units=span.stop_units,
        limit_seconds=1e6,
        deadline=0.0,
    )


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def scores_apart(segment: Segment, data: TrainingData, one: CheckpointFolder, other: CheckpointFolder) -> float:
    """Largest difference of validation scores between a segment's checkpoints in two folders."""
    after = replace(segment, start_units=segment.stop_units)
    features = data.validation["dense"].features
    first, second = (load_learner(after, data, folder).scores(features) for folder in (one, other))
    return float(np.abs(first - second).max())


def scores_off_by_rounding(segment: Segment, data: TrainingData, folder: CheckpointFolder) -> float:
    """Largest difference of validation scores that a rounding of the first weights makes."""
    learner = DenseLearner(segment.configuration, data, segment.seed)
    with torch.no_grad():
        for layer in learner.layers:
            layer.weight.mul_(1 + 1e-7 * torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0)))
    learner.advance(segment.stop_units)
    features = data.validation["dense"].features
    after = replace(segment, start_units=segment.stop_units)
    return float(np.abs(learner.scores(features) - load_learner(after, data, folder).scores(features)).max())


if __name__ == "__main__":
    main()
