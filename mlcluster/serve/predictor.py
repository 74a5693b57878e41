"""What the model answers to a table: the one path that HTTP and batch prediction share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pyarrow as pa

from mlcluster.data import Label, TableSchema, rows_to_table
from mlcluster.data.images import opencv
from mlcluster.errors import BundleError
from mlcluster.registry import Bundle

_ROWS_PER_CALL = 16_384
_IMAGE_VALUES_PER_CALL = 1 << 18
"""Convolutions keep up to some hundred values for each of the input."""
UNVERSIONED = "0"
"""The version of a bundle that no registry has numbered yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """Of a classification: probabilities (n, k) in `scores`, and the most probable class in `labels`.

    Of a regression: values (n,) in `scores`, and the same as Python floats in `labels`.
    """

    scores: npt.NDArray[np.float64]
    labels: list[Label]


class Predictor:
    """A bundle, ready to answer. Threads may share it.

    Raises:
        DataError: it answers to images, and what decodes them is not installed here.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.name: str = bundle.card.name
        self.version: str = bundle.card.version or UNVERSIONED
        self.schema: TableSchema = bundle.schema
        self._session = _open_session(bundle.model)
        self._output_names = [self._session.get_outputs()[0].name]
        self._rows_per_call = _ROWS_PER_CALL
        if bundle.schema.images:
            opencv()
            self._rows_per_call = max(1, _IMAGE_VALUES_PER_CALL // bundle.transform.num_outputs)

    @property
    def classes(self) -> tuple[Label, ...]:
        """Empty for a regression."""
        return self.schema.target.classes

    def warm_up(self) -> None:
        """Answers the bundle's example once, since the first call takes longer than those after it."""
        if self.bundle.input_example:
            self.predict(rows_to_table(self.bundle.input_example[:1], self.schema))

    def predict(self, table: pa.Table) -> Prediction:
        """Answers to the rows of a table that holds the feature columns, as `conform` or `columns_to_table` give it.

        Raises:
            DataError: a feature column is absent or of another kind.
        """
        return self.predict_matrix(self.bundle.transform.apply(table))

    def predict_matrix(self, features: npt.NDArray[np.float32]) -> Prediction:
        """Answers to rows that the bundle's transform has encoded, (n, outputs)."""
        scores = self._scores(features)
        if not self.classes:
            values = scores[:, 0]
            return Prediction(scores=values, labels=values.tolist())
        if len(scores) == 1:
            row = scores[0].tolist()
            return Prediction(scores=scores, labels=[self.classes[row.index(max(row))]])
        return Prediction(scores=scores, labels=_most_probable(scores, self.classes))

    def _scores(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        if not len(features):
            return np.zeros((0, len(self.classes) or 1))
        if len(features) <= self._rows_per_call:
            return np.asarray(self._session.run(self._output_names, {"features": features})[0], dtype=np.float64)
        # In blocks: the runtime's intermediate values of a million rows would outgrow the replica.
        step = self._rows_per_call
        starts = range(0, len(features), step)
        blocks = [self._session.run(self._output_names, {"features": features[at : at + step]})[0] for at in starts]
        return np.asarray(np.concatenate(blocks), dtype=np.float64)


def _most_probable(scores: npt.NDArray[np.float64], classes: Sequence[Label]) -> list[Label]:
    return [classes[index] for index in scores.argmax(axis=1).tolist()]


def _open_session(model: bytes) -> Any:
    """One thread a session: replicas are what uses more cores, and a pool of threads only spins for one row."""
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen classes of its own, which share no base but this one
        reason = str(error).splitlines()[0]
        raise BundleError(f"model.onnx cannot be loaded ({reason}); build the bundle again.") from error
