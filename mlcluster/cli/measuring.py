"""What serving a model needs: megabytes, and milliseconds for an answer to one row at the 99th percentile.

Of a trial in the search it is measured on the worker, between its training and its report: the model is exported and
asked through the very path that serves it, transform included, for some milliseconds. That is the machine
that trains and not the one that will serve, and it may be busy; so what is over a limit is timed again, and its least
counts: a trial is given up for its model, not for its neighbours. The winner is measured at length before it ships.

Exporting takes 0.3 to 4 ms, and 60 ms for each MB of trees. So of ensembles beyond `MAX_NODES` every n-th tree is
exported, and its share of the bytes and of the time is multiplied.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from mlcluster.registry import Bundle, to_onnx
from mlcluster.serve.predictor import Predictor
from mlcluster.train import (
    FAMILIES,
    Checkpoints,
    Measured,
    Segment,
    Structure,
    TrainingData,
    TreeEnsemble,
    TrialReport,
    load_learner,
)
from mlcluster.tune import Limits

MAX_NODES = 20_000
"""Of the trees of an ensemble that are exported in the search; more stand for themselves only in part."""
_NUM_CALLS = 200
_SEARCH_SECONDS, _LEAST_CALLS = 0.005, 20
_MAX_TIMINGS = 3


def measure_bundle(bundle: Bundle, row: pa.Table) -> Measured:
    """Of what would be served, by 200 answers to a row."""
    seconds = _call_seconds(Predictor(bundle), row, at_most_seconds=math.inf)
    return Measured(p99_ms=_p99_ms(seconds), model_mb=_megabytes(bundle))


@dataclass(frozen=True, kw_only=True)
class ServingMeasure:
    """Measures the models of a search. `around` is what is served beside a model, by family."""

    around: Mapping[str, Bundle]
    row: pa.Table
    limits: Limits

    def __call__(self, family: str, structure: Structure) -> Measured:
        """What serving it needs; the last milliseconds are not worth a long look here."""
        part, times = _part_of(structure)
        bundle = replace(self.around[family], model=to_onnx(part))
        rest_mb = _megabytes(self.around[family])
        model_mb = rest_mb + times * len(bundle.model) / 1e6
        predictor, base_ms = Predictor(bundle), 0.0 if times == 1.0 else self._base_ms(family, structure)
        measured = self._time(predictor, times, base_ms, model_mb)
        for _ in range(_MAX_TIMINGS - 1):
            if self.limits.p99_ms is None or measured.p99_ms <= self.limits.p99_ms:
                break
            again = self._time(predictor, times, base_ms, model_mb)
            measured = min(measured, again, key=lambda one: one.p99_ms)
        return measured

    def _time(self, predictor: Predictor, times: float, base_ms: float, model_mb: float) -> Measured:
        seconds = _call_seconds(predictor, self.row, at_most_seconds=_SEARCH_SECONDS)
        median_ms = float(np.median(seconds)) * 1000
        others_ms = (times - 1) * max(0.0, median_ms - base_ms)
        return Measured(p99_ms=_p99_ms(seconds) + others_ms, model_mb=model_mb)

    def _base_ms(self, family: str, structure: Structure) -> float:
        """Of an answer without trees: the transform and the call."""
        assert isinstance(structure, TreeEnsemble), "only trees are exported in part"
        empty = replace(self.around[family], model=to_onnx(replace(structure, trees=())))
        return float(np.median(_call_seconds(Predictor(empty), self.row, at_most_seconds=_SEARCH_SECONDS))) * 1000


def with_measure(
    report: TrialReport, segment: Segment, data: TrainingData, checkpoints: Checkpoints, measure: ServingMeasure
) -> TrialReport:
    """The report of a segment, with what its model needs: after its first one, and after each if the model grows."""
    is_due = segment.start_units == 0 or FAMILIES[segment.family].model_grows
    if not is_due or not math.isfinite(report.loss):
        return report
    reached = replace(segment, start_units=report.units, device="cpu")
    structure = load_learner(reached, data, checkpoints).structure()
    return replace(report, measured=measure(segment.family, structure))


def _part_of(structure: Structure) -> tuple[Structure, float]:
    """What of it is exported, and how many times that it is in all."""
    if not isinstance(structure, TreeEnsemble):
        return structure, 1.0
    nodes = np.array([len(tree.feature) for tree in structure.trees])
    if nodes.sum() <= MAX_NODES or len(nodes) == 1:
        return structure, 1.0
    step = math.ceil(nodes.sum() / MAX_NODES)
    part = structure.trees[::step]
    return replace(structure, trees=part), float(nodes.sum() / nodes[::step].sum())


def _call_seconds(predictor: Predictor, row: pa.Table, *, at_most_seconds: float) -> list[float]:
    predictor.predict(row)  # the first call allocates
    seconds: list[float] = []
    while len(seconds) < _LEAST_CALLS or (len(seconds) < _NUM_CALLS and sum(seconds) < at_most_seconds):
        started = time.perf_counter()
        predictor.predict(row)
        seconds.append(time.perf_counter() - started)
    return seconds


def _p99_ms(seconds: list[float]) -> float:
    return float(np.quantile(seconds, 0.99)) * 1000


def _megabytes(bundle: Bundle) -> float:
    return sum(len(data) for data in bundle.files().values()) / 1e6
