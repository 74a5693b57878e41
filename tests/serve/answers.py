"""Answers of the sample model, as they go to a sink, without an application around it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from mlcluster.serve import PredictionRecord, Predictor
from mlcluster.serve.answering import record_layout
from mlcluster.serve.prediction_ids import PredictionIds
from mlcluster.serve.records.answered import Answered
from mlcluster.serve.records.block import RecordBlock
from mlcluster.serve.records.layout import RecordLayout, flat_table, records_of
from mlcluster.serve.tracing import RequestIds
from tests.registry.bundles import CLASSES, Task, sample_bundle, sample_table

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


@cache
def layout(task: Task = "binary") -> RecordLayout:
    return record_layout(Predictor(sample_bundle(task)))


def answered(num_rows: int = 1, *, seed: int = 0, task: Task = "binary", **changes: Any) -> Answered:
    """One of now, to drawn rows, with drawn scores."""
    columns = changes.pop("columns", None) or sample_table(num_rows, seed=seed).to_pydict()
    rng = np.random.default_rng(seed)
    num_classes = len(CLASSES[task])
    scores = rng.dirichlet(np.ones(num_classes), num_rows) if num_classes else rng.normal(size=num_rows)
    now_ms = time.time_ns() // 1_000_000
    one = Answered(
        layout=layout(task),
        id=PredictionIds("demo", "3").next(now_ms),
        at_ms=now_ms,
        latency_ms=0.5,
        columns=columns,
        doubles=None,
        scores=scores,
        body=b"{}",
        ids=RequestIds(b"r-1", b"00-" + TRACE_ID.encode() + b"-00f067aa0ba902b7-00"),
    )
    return one._replace(**changes)


def labels_of(one: Answered, task: Task = "binary") -> list[Any]:
    """What the model has said."""
    return [CLASSES[task][code] for code in one.scores.argmax(axis=1)] if CLASSES[task] else one.scores.tolist()


def recorded(*answers: Answered) -> list[PredictionRecord]:
    """What a block makes of them."""
    block = RecordBlock(answers[0].layout)
    for one in answers:
        block.add(one)
    return list(records_of(flat_table(pa.Table.from_batches([block.batch()]))))


def eventually(is_so: Callable[[], bool], *, seconds: float = 10.0) -> bool:
    """Whether it is so before the time is up."""
    deadline = time.monotonic() + seconds
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.02)
    return is_so()
