"""What every answer leaves behind, whichever way its request was read: an id, a count and a record."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlcluster.serve.live_statistics import LiveStatistics
from mlcluster.serve.metrics import ServingMetrics
from mlcluster.serve.prediction_ids import PredictionIds
from mlcluster.serve.predictor import Prediction, Predictor
from mlcluster.serve.records.answered import Answered, RecordSink
from mlcluster.serve.records.large_requests import is_large
from mlcluster.serve.records.layout import RecordConstants, RecordLayout
from mlcluster.serve.tensors import input_specs, output_specs, recorded_inputs
from mlcluster.serve.tracing import RequestIds

log = logging.getLogger(__name__)

_FEW_VALUES = 64
"""Up to here a look at each value beats numpy."""


class Received(NamedTuple):
    """A request as it came; `started` is of `time.perf_counter`. A tuple: it is made in a third of the time."""

    body: bytes
    started: float
    ids: RequestIds
    doubles: npt.NDArray[np.float64] | None = None
    """As `Encoded.doubles`."""


def _is_finite(scores: npt.NDArray[np.float64]) -> bool:
    if scores.size <= _FEW_VALUES:
        return all(map(math.isfinite, scores.ravel().tolist()))
    return bool(np.isfinite(scores).all())


def record_layout(predictor: Predictor) -> RecordLayout:
    """The table of its answers."""
    schema, specs = predictor.schema, input_specs(predictor.schema)
    constants = RecordConstants(
        model=predictor.name,
        version=predictor.version,
        trial_id=predictor.bundle.card.trial_id,
        classes=tuple(predictor.classes),
        label=output_specs(schema)[0].datatype,
        singles=tuple(column.name for column in schema.features if column.arrow_type == "float"),
    )
    has_images = any(spec.is_image for spec in specs)
    return RecordLayout.made(
        constants,
        {spec.name: spec.datatype for spec in specs},
        read_images=partial(recorded_inputs, specs=specs) if has_images else None,
    )


class Answering:
    """The answers of one predictor."""

    def __init__(self, predictor: Predictor, record: RecordSink, metrics: ServingMetrics) -> None:
        self.predictor = predictor
        self._record = record
        self.metrics = metrics
        self._ids = PredictionIds(predictor.name, predictor.version)
        self._layout = record_layout(predictor)
        self.inputs = input_specs(predictor.schema)
        self._labels_are_text = output_specs(predictor.schema)[0].datatype == "BYTES"

    def settle(self, columns: Mapping[str, Any], prediction: Prediction, request: Received) -> str:
        """Counts and records one answer; its prediction id.

        Raises:
            ArithmeticError: the model answered a number that is not finite.
        """
        if not _is_finite(prediction.scores):
            raise ArithmeticError("the model answered a number that is not finite")
        now_ms = time.time_ns() // 1_000_000
        prediction_id = self._ids.next(now_ms)
        self.metrics.count_rows(len(prediction.labels))
        latency_ms = (time.perf_counter() - request.started) * 1_000
        answered = Answered(
            self._layout,
            prediction_id,
            now_ms,
            latency_ms,
            columns,
            request.doubles,
            prediction.scores,
            request.body,
            request.ids,
        )
        self._record.write(answered)
        if is_large(answered) and self.metrics.statistics is not None:
            self._count(answered, self.metrics.statistics)
        return prediction_id

    def _count(self, answered: Answered, statistics: LiveStatistics) -> None:
        try:
            statistics.add_large(answered, now=time.monotonic())
        except Exception:  # the answer is given, whatever is wrong with its count
            log.exception("did not count the rows of a request of many")

    def values(self, prediction: Prediction) -> dict[str, list[Any]]:
        """Flat values by output name, as the protocol's tensors have them."""
        labels = prediction.labels
        if not self.predictor.classes:
            return {"value": labels}
        if self._labels_are_text:
            labels = [str(label) for label in labels]
        return {"label": labels, "probabilities": prediction.scores.ravel().tolist()}
