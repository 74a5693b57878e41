"""What every answer leaves behind, whichever way its request was read: an id, a count and a record."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlcluster.serve.metrics import ServingMetrics
from mlcluster.serve.predictor import Prediction, Predictor
from mlcluster.serve.records import MAX_RECORDED_ROWS, PredictionIds, PredictionRecord, RecordSink
from mlcluster.serve.tensors import input_specs, output_specs, recorded_inputs
from mlcluster.serve.tracing import RequestIds

_FEW_VALUES = 64
"""Up to here a look at each value beats numpy."""
_KEPT_BYTES = 64 * 1024
"""Of a body that waits for its record to be made; a larger one is hashed at once."""


class Received(NamedTuple):
    """A request as it came; `started` is of `time.perf_counter`. A tuple: it is made in a third of the time."""

    body: bytes
    started: float
    ids: RequestIds


def _is_finite(scores: npt.NDArray[np.float64]) -> bool:
    if scores.size <= _FEW_VALUES:
        return all(map(math.isfinite, scores.ravel().tolist()))
    return bool(np.isfinite(scores).all())


class Answering:
    """The answers of one predictor."""

    def __init__(self, predictor: Predictor, record: RecordSink, metrics: ServingMetrics) -> None:
        self.predictor = predictor
        self._record = record
        self.metrics = metrics
        self._ids = PredictionIds(predictor.name, predictor.version)
        self.inputs = input_specs(predictor.schema)
        self._labels_are_text = output_specs(predictor.schema)[0].datatype == "BYTES"

    def settle(self, columns: Mapping[str, Any], prediction: Prediction, request: Received) -> str:
        """Counts and records one answer; its prediction id.

        Raises:
            ArithmeticError: the model answered a number that is not finite.
        """
        if not _is_finite(prediction.scores):
            raise ArithmeticError("the model answered a number that is not finite")
        prediction_id = self._ids.next()
        self.metrics.count_rows(len(prediction.labels))
        answered = _Answered(self, prediction_id, columns, prediction, request, time.time(), time.perf_counter())
        if len(request.body) <= _KEPT_BYTES:
            self._record.write(answered.record)
        else:
            record = answered.record()
            self._record.write(lambda: record)
        return prediction_id

    def values(self, prediction: Prediction) -> dict[str, list[Any]]:
        """Flat values by output name, as the protocol's tensors have them."""
        labels = prediction.labels
        if not self.predictor.classes:
            return {"value": labels}
        if self._labels_are_text:
            labels = [str(label) for label in labels]
        return {"label": labels, "probabilities": prediction.scores.ravel().tolist()}


def _iso(seconds: float) -> str:
    """As `datetime` writes it with milliseconds, for a third of the time."""
    milliseconds = int(seconds * 1_000)
    return f"{_second(milliseconds // 1_000)}.{milliseconds % 1_000:03d}+00:00"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@dataclass(frozen=True, slots=True)
class _Answered:
    """What a record is made of, once there is time for it."""

    answering: Answering
    id: str
    columns: Mapping[str, Any]
    prediction: Prediction
    request: Received
    answered_at: float
    """Seconds since the epoch."""
    ended: float
    """Of `time.perf_counter`."""

    def record(self) -> PredictionRecord:
        answering, num_rows = self.answering, len(self.prediction.labels)
        card, is_short = answering.predictor.bundle.card, num_rows <= MAX_RECORDED_ROWS
        return PredictionRecord(
            id=self.id,
            model=answering.predictor.name,
            version=answering.predictor.version,
            trial_id=card.trial_id,
            received_at=_iso(self.answered_at),
            num_rows=num_rows,
            latency_ms=round((self.ended - self.request.started) * 1_000, 3),
            digest=hashlib.sha256(self.request.body).hexdigest(),
            inputs=recorded_inputs(self.columns, answering.inputs) if is_short else None,
            outputs=self._outputs() if is_short else None,
            **self.request.ids.members,
        )

    def _outputs(self) -> dict[str, list[Any]]:
        if not self.answering.predictor.classes:
            return {"value": self.prediction.labels}
        return {"label": self.prediction.labels, "probabilities": self.prediction.scores.tolist()}
