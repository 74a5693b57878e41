"""What every answer leaves behind, whichever way its request was read: an id, a count and a record."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcluster.serve.metrics import ServingMetrics
from mlcluster.serve.predictor import Prediction, Predictor
from mlcluster.serve.records import MAX_RECORDED_ROWS, PredictionIds, PredictionRecord, RecordSink, utc_now
from mlcluster.serve.tensors import input_specs, output_specs, recorded_inputs

_FEW_VALUES = 64
"""Up to here a look at each value beats numpy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """A request as it came; `started` is of `time.perf_counter`."""

    body: bytes
    started: float


def _is_finite(scores: npt.NDArray[np.float64]) -> bool:
    if scores.size <= _FEW_VALUES:
        return all(map(math.isfinite, scores.ravel().tolist()))
    return bool(np.isfinite(scores).all())


class Answering:
    """The answers of one predictor."""

    def __init__(self, predictor: Predictor, record: RecordSink, metrics: ServingMetrics) -> None:
        self.predictor = predictor
        self._record = record
        self._metrics = metrics
        self._ids = PredictionIds(predictor.name, predictor.version)
        self._trial_id = predictor.bundle.card.trial_id
        self._inputs = input_specs(predictor.schema)
        self._has_images = bool(predictor.schema.images)
        self._labels_are_text = output_specs(predictor.schema)[0].datatype == "BYTES"

    def settle(self, columns: Mapping[str, list[Any]], prediction: Prediction, request: Received) -> str:
        """Counts and records one answer; its prediction id.

        Raises:
            ArithmeticError: the model answered a number that is not finite.
        """
        num_rows = len(prediction.labels)
        is_short = num_rows <= MAX_RECORDED_ROWS
        if not _is_finite(prediction.scores):
            raise ArithmeticError("the model answered a number that is not finite")
        prediction_id = self._ids.next()
        self._metrics.count_rows(num_rows)
        self._record.write(
            PredictionRecord(
                id=prediction_id,
                model=self.predictor.name,
                version=self.predictor.version,
                trial_id=self._trial_id,
                received_at=utc_now(),
                num_rows=num_rows,
                latency_ms=round((time.perf_counter() - request.started) * 1_000, 3),
                digest=hashlib.sha256(request.body).hexdigest(),
                inputs=self._recorded_inputs(columns) if is_short else None,
                outputs=self._recorded(prediction) if is_short else None,
            )
        )
        return prediction_id

    def values(self, prediction: Prediction) -> dict[str, list[Any]]:
        """Flat values by output name, as the protocol's tensors have them."""
        labels = prediction.labels
        if not self.predictor.classes:
            return {"value": labels}
        if self._labels_are_text:
            labels = [str(label) for label in labels]
        return {"label": labels, "probabilities": prediction.scores.ravel().tolist()}

    def _recorded_inputs(self, columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        if self._has_images:
            return recorded_inputs(columns, self._inputs)
        return {spec.name: columns[spec.name] for spec in self._inputs}

    def _recorded(self, prediction: Prediction) -> dict[str, list[Any]]:
        if not self.predictor.classes:
            return {"value": prediction.labels}
        return {"label": prediction.labels, "probabilities": prediction.scores.tolist()}
