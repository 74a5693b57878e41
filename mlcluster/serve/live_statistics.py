"""What is asked and answered now, counted into the cells of the bundle's reference profile, model by model.

Blocks of records are counted beside the answers, by the thread that writes them: all of them, or, of more than some
thousand rows within five seconds, the first ones of these. A request of so many rows that its record has no values is
counted where it is answered, which for most of them is beside the event loop. Counts of a moving window are kept in
slices of it, which go one after another; counts since the start are for Prometheus, which makes windows of its own.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from mlcluster.data import ColumnReference, ReferenceProfile, TargetColumn, answer_columns
from mlcluster.serve.predictor import Predictor
from mlcluster.serve.records.answered import Answered
from mlcluster.serve.records.block import RecordBlock
from mlcluster.serve.records.large_requests import block_of_large
from mlcluster.serve.records.layout import INPUT, RecordLayout, kept_rows

_NUM_SLICES = 12
_COUNTED_ROWS, _COUNTING_SECONDS = 8192, 5
"""So many of a model's rows are counted within so many seconds; the statistics would say no more with more."""
MAX_SERIES_FEATURES, MAX_SERIES_CELLS = 50, 24
"""Features that have counts at /metrics, and cells that each of them may have there; the statistics have all."""
Counts = npt.NDArray[np.int64]


class LiveStatistics:
    """Of one model; for several threads."""

    def __init__(self, reference: ReferenceProfile, target: TargetColumn, *, window_seconds: float) -> None:
        self._reference = reference
        self._target = target
        self._window_seconds = window_seconds
        self._slice_ms = max(1, int(window_seconds * 1_000 / _NUM_SLICES))
        self._columns = (*reference.features, *reference.answers)
        self._ends = np.cumsum([column.num_cells for column in self._columns])[:-1]
        self._total = self._nothing()
        self._slices: deque[tuple[int, Counts]] = deque(maxlen=_NUM_SLICES + 1)
        """The number of each slice since 1970, with its counts."""
        self._lock = threading.Lock()
        self._span, self._num_left = -1, 0
        """Five seconds of the clock, and rows that may be counted within it."""
        self.num_passed_over = 0
        """Rows since the start that were not counted, since there were many within five seconds."""

    def _nothing(self) -> Counts:
        return np.zeros(sum(column.num_cells for column in self._columns), dtype=np.int64)

    def add_block(self, block: RecordBlock, *, now: float) -> None:
        """Counts the rows of a block, unless these five seconds of the caller's clock have had their rows."""
        with self._lock:
            is_counted = self._left(now) > 0
            if is_counted:
                self._num_left -= block.num_rows
            else:
                self.num_passed_over += block.num_rows
        if is_counted:
            self.add(block.batch())

    def add_large(self, answered: Answered, *, now: float) -> None:
        """Counts rows of a request whose record has no values: as many as these five seconds of the clock have left."""
        num_rows = len(answered.scores)
        with self._lock:
            most = max(0, min(num_rows, self._left(now)))
            self._num_left -= most
            if not most:
                self.num_passed_over += num_rows
        if most:
            block = block_of_large(answered, most)
            with self._lock:
                self.num_passed_over += num_rows - block.num_rows
            self.add(block.batch())

    def _left(self, now: float) -> int:
        """Rows that may be counted in these five seconds; with the lock held."""
        span = int(now / _COUNTING_SECONDS)
        if span != self._span:
            self._span, self._num_left = span, _COUNTED_ROWS
        return self._num_left

    def add(self, batch: pa.RecordBatch) -> None:
        """Counts the rows of a batch in the layout of records; those of requests without values are left out."""
        rows = kept_rows(batch)
        answers = self._answers(rows)
        counts = np.concatenate(
            [
                *(column.count(rows.field(f"{INPUT}{column.name}")) for column in self._reference.features),
                *(column.count(answers.column(column.name).chunk(0)) for column in self._reference.answers),
            ]
        )
        slot = pc.max(batch.column("answered_at")).value // self._slice_ms
        with self._lock:
            self._total += counts
            if self._slices and self._slices[-1][0] >= slot:
                self._slices[-1][1][:] += counts
            else:
                self._slices.append((slot, counts))

    def _answers(self, rows: pa.StructArray) -> pa.Table:
        if not self._target.classes:
            scores = rows.field("value").to_numpy(zero_copy_only=False)
        else:
            scores = rows.field("probabilities").flatten().to_numpy().reshape(-1, len(self._target.classes))
        return answer_columns(scores, self._target)

    def window(self, now_ms: int) -> list[tuple[ColumnReference, Counts]]:
        """Each column with its counts, (num_cells,), of the window that ends now: its slices, the last one in part."""
        oldest = now_ms // self._slice_ms - _NUM_SLICES
        with self._lock:
            counts = sum((counts for slot, counts in self._slices if slot > oldest), self._nothing())
        return list(zip(self._columns, np.split(counts, self._ends), strict=True))

    def to_json(self, now_ms: int) -> dict[str, Any]:
        """The window as JSON; counts of replicas may be added up, cell by cell."""
        columns = self.window(now_ms)
        described = [_described(column, counts) for column, counts in columns]
        num_features = len(self._reference.features)
        return {
            "window_seconds": self._window_seconds,
            "num_rows": int(columns[0][1].sum()) if columns else 0,
            "num_rows_passed_over": self.num_passed_over,
            "num_reference_rows": self._reference.num_rows,
            "features": described[:num_features],
            "answers": described[num_features:],
        }

    def collect(self, labels: Sequence[str], names: Sequence[str], now_ms: int) -> Iterator[Metric]:
        """In Prometheus's words: counts since the start, of a bounded number of series, and drift of the window."""
        what = "Rows by column and cell of the reference profile."
        rows = CounterMetricFamily("mlcluster_column_rows", what, labels=(*names, "side", "column", "cell"))
        what = "Population stability index of the window against the reference, in nats, less what chance gives."
        drift = GaugeMetricFamily("mlcluster_column_drift", what, labels=(*names, "side", "column"))
        with self._lock:
            totals = np.split(self._total.copy(), self._ends)
        num_features = len(self._reference.features)
        for place, (total, (column, counts)) in enumerate(zip(totals, self.window(now_ms), strict=True)):
            if MAX_SERIES_FEATURES <= place < num_features:
                continue
            side = "input" if place < num_features else "output"
            for cell, count in _series(column, total).items():
                rows.add_metric((*labels, side, column.name, cell), count)
            index = column.drift(counts)
            if index is not None:
                drift.add_metric((*labels, side, column.name), index)
        what = "Rows that were answered and not counted, since there were many within five seconds."
        passed_over = CounterMetricFamily("mlcluster_column_rows_passed_over", what, labels=names)
        passed_over.add_metric(labels, self.num_passed_over)
        yield from (rows, drift, passed_over)


class StatisticsBoard:
    """The statistics of all models of a replica."""

    def __init__(self, *, window_seconds: float) -> None:
        self._window_seconds = window_seconds
        self._models: dict[tuple[str, str], LiveStatistics] = {}

    def of(self, predictor: Predictor) -> LiveStatistics | None:
        """Those of a model, the same ones where it is loaded again; None where its bundle has no reference profile."""
        key, reference = (predictor.name, predictor.version), predictor.bundle.reference
        if reference is None:
            return None
        if key not in self._models:
            target = predictor.schema.target
            self._models[key] = LiveStatistics(reference, target, window_seconds=self._window_seconds)
        return self._models[key]

    def add(self, layout: RecordLayout, block: RecordBlock) -> None:
        """Counts a block of a model, if it has statistics."""
        statistics = self._models.get((layout.model, layout.version))
        if statistics is not None:
            statistics.add_block(block, now=time.monotonic())


def _described(column: ColumnReference, counts: Counts) -> dict[str, Any]:
    cells = {"edges": list(column.edges)} if column.edges else {"levels": list(column.levels)}
    drift = column.drift(counts)
    return {
        "name": column.name,
        **cells,
        "cells": list(column.cell_names()),
        "counts": counts.tolist(),
        "reference": list(column.counts),
        "drift": None if drift is None else round(drift, 6),
    }


def _series(column: ColumnReference, counts: Counts) -> dict[str, int]:
    """Counts by cell, of equal names together; the levels behind the first ones count as others."""
    names, found = list(column.cell_names()), counts.tolist()
    if len(names) > MAX_SERIES_CELLS:
        names[MAX_SERIES_CELLS - 2 : -2] = [names[-2]] * (len(names) - MAX_SERIES_CELLS)
    series: dict[str, int] = {}
    for name, count in zip(names, found, strict=True):
        series[name] = series.get(name, 0) + count
    return series
