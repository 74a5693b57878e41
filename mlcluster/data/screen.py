"""Train rows that may have been planted: `data.screen`. Held against a robust model, and warned of or quarantined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlcluster.data.engine import Engine
from mlcluster.data.findings import Finding
from mlcluster.data.hashing import mix, seeded_shares
from mlcluster.data.labels.trimmed_loss import TrimmedModel, far_residuals, fit_trimmed, surprising_labels
from mlcluster.data.row_plan import RowPlan
from mlcluster.data.schema import TargetColumn
from mlcluster.data.source import Block, Source, read_block
from mlcluster.data.split import QUARANTINED, TRAIN, SplitLabels
from mlcluster.data.target import encode_target
from mlcluster.data.transform import Transform
from mlcluster.spec import DataSpec

REASON = "does not fit a robust linear model of the other train rows"
# A linear model of some hundred columns is as good from a sample of this many rows.
_MAX_FITTED_ROWS = 50_000

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ScreenTask:
    """One block, whose train rows are encoded: a sample of them to fit `model` to, or all, to hold against it."""

    block: Block
    schema: pa.Schema
    labels: SplitLabels
    target: TargetColumn
    transform: Transform
    share: float
    seed: int
    model: TrimmedModel | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ScreenPart:
    """Of n train rows of a block; `probabilities` (n, k) has no columns for a quantity."""

    losses: FloatArray
    probabilities: FloatArray
    targets: npt.NDArray[Any]


def screen_rows(
    spec: DataSpec, source: Source, rows: RowPlan, transform: Transform, *, seed: int, engine: Engine
) -> RowPlan:
    """The plan with a finding about suspect train rows, which are quarantined if `data.screen` says so.

    The same plan where there are none. `transform` is the dense one, fitted to the train rows.
    """
    num_train = sum(int((labels == TRAIN).sum()) for labels in rows.labels)
    tasks = [
        ScreenTask(
            block=block,
            schema=source.schema,
            labels=labels,
            target=rows.target,
            transform=transform,
            share=_MAX_FITTED_ROWS / num_train,
            seed=seed,
        )
        for block, labels in zip(source.blocks, rows.labels, strict=True)
    ]
    samples = engine.run(sample_train_rows, tasks)
    model = fit_trimmed(
        np.concatenate([features for features, _ in samples]),
        np.concatenate([targets for _, targets in samples]),
        num_classes=len(rows.target.classes),
        rng=np.random.default_rng(seed),
    )
    parts = engine.run(judge_block, [replace(task, model=model) for task in tasks])
    losses = np.concatenate([part.losses for part in parts])
    if model.is_classifier:
        probabilities = np.concatenate([part.probabilities for part in parts])
        is_suspect = surprising_labels(np.concatenate([part.targets for part in parts]), probabilities)
    else:
        is_suspect = far_residuals(losses)
    return _with_suspects(spec, rows, is_suspect, losses) if is_suspect.any() else rows


def sample_train_rows(task: ScreenTask) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
    """The encoded train rows of a block, or a share of them, by a hash of block and place."""
    features, targets = _train_rows(task)
    places = np.arange(len(targets), dtype=np.uint64) + (np.uint64(task.block.index) << np.uint64(40))
    is_taken = seeded_shares(mix(places), task.seed) < task.share
    return features[is_taken], targets[is_taken]


def judge_block(task: ScreenTask) -> ScreenPart:
    """What `task.model` makes of each train row of a block."""
    assert task.model is not None
    features, targets = _train_rows(task)
    return ScreenPart(
        losses=task.model.losses(features, targets),
        probabilities=task.model.probabilities(features) if task.model.is_classifier else np.zeros((len(targets), 0)),
        targets=targets,
    )


def _train_rows(task: ScreenTask) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
    is_train = task.labels == TRAIN
    if not is_train.any():
        return np.zeros((0, task.transform.num_outputs), dtype=np.float32), np.zeros(0, dtype=np.int64)
    names = [*(column.name for column in task.transform.columns), task.target.name]
    table = read_block(task.block, task.schema, names).filter(pa.array(is_train))
    return task.transform.apply(table), encode_target(table.column(task.target.name), task.target)


def _with_suspects(
    spec: DataSpec, rows: RowPlan, is_suspect: npt.NDArray[np.bool_], losses: npt.NDArray[np.float64]
) -> RowPlan:
    labels, bad_rows, numbers = [], [], []
    done = start = 0
    for before, known in zip(rows.labels, rows.bad_rows, strict=True):
        train = np.flatnonzero(before == TRAIN)
        here = train[is_suspect[done : done + len(train)]]
        after = before.copy()
        after[here] = QUARANTINED
        labels.append(after)
        bad_rows.append({**dict.fromkeys(here.tolist(), REASON), **known})
        numbers += (here + start).tolist()
        done, start = done + len(train), start + len(before)
    is_quarantined = spec.screen.trimmed_loss == "quarantine"
    finding = _finding(numbers, losses[is_suspect], num_train=len(losses), is_quarantined=is_quarantined)
    if not is_quarantined:
        return replace(rows, findings=(*rows.findings, finding))
    return replace(rows, labels=tuple(labels), bad_rows=tuple(bad_rows), findings=(*rows.findings, finding))


def _finding(
    numbers: Sequence[int], losses: npt.NDArray[np.float64], *, num_train: int, is_quarantined: bool
) -> Finding:
    worst = [numbers[place] for place in np.argsort(-losses, kind="stable")[:5]]
    shown = ", ".join(map(str, worst)) + (", ..." if len(numbers) > len(worst) else "")
    done = "they are quarantined" if is_quarantined else "look at them, or set data.screen.trimmed_loss: quarantine"
    message = (
        f"{len(numbers)} train rows ({len(numbers) / num_train:.1%}) do not fit a robust linear model of the others "
        f"(rows {shown} from 0, the worst first); {done}."
    )
    return Finding(kind="suspect_rows", message=message, value=float(len(numbers)))
