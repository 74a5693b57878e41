"""What a request is answered once its columns have been read, by whichever protocol they came.

Every protocol asks here whether the model is the one that is served, whether columns, rows and values fit it, and
whether there is still time; the words of a refusal are the same in all of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlcluster.data import RowError, columns_to_table
from mlcluster.errors import DataError
from mlcluster.serve.answering import Answering, Received
from mlcluster.serve.deadline import Deadline
from mlcluster.serve.inference_protocol import ModelTensors
from mlcluster.serve.json_body import refuse_unknown
from mlcluster.serve.other_models import ServedModel, ServedModels
from mlcluster.serve.predictor import Prediction
from mlcluster.serve.problem import RequestError, malformed, shorten
from mlcluster.serve.reception import InFlight
from mlcluster.serve.short_way.row_encoder import RowEncoder


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One answer, counted and recorded."""

    prediction_id: str
    prediction: Prediction
    num_rows: int


class CarefulAnswers:
    """The careful way of one predictor. Threads may share it."""

    def __init__(self, answering: Answering, in_flight: InFlight, models: ServedModels | None = None) -> None:
        """`models` are all that are served here; none given, this one alone."""
        self.answering = answering
        self.in_flight = in_flight
        self.metrics = answering.metrics
        self.limits = in_flight.limits
        self.tensors = ModelTensors.of(answering.predictor.schema)
        self.inputs, self.outputs = self.tensors.inputs, self.tensors.outputs
        self._predictor = answering.predictor
        schema = answering.predictor.schema
        self.names = schema.feature_names
        self.max_columns = len(schema.feature_names) + 1 + len(schema.non_features)
        self._encoder = RowEncoder.of(schema, answering.predictor.bundle.transform)
        # Columns that the source had and the model does not take may come along.
        self._ignored = {schema.target.name, *schema.non_features}
        own = ServedModel(name=self._predictor.name, version=self._predictor.version)
        self._models = models or ServedModels(own)

    @property
    def identity(self) -> dict[str, str]:
        """The model's name and version, as every answer has them."""
        return {"model_name": self._predictor.name, "model_version": self._predictor.version}

    def answer(
        self, columns: Mapping[str, list[Any]], request: Received, deadline: Deadline, *, is_typed: bool = False
    ) -> Answer:
        """The model's answer to values by column, None for missing.

        Where `is_typed`, the values come from columns of one type each, most of which are plain: these are encoded as
        on the short way, to the same bits.

        Raises:
            RequestError: 422 naming the column that does not fit, 504 where the deadline has passed.
            ArithmeticError: the model answered a number that is not finite.
        """
        deadline.check()
        num_rows = self._num_rows(columns)
        encoded = self._encoder.encode(columns, num_rows) if is_typed and self._encoder is not None else None
        if encoded is None:
            prediction = self._predict(columns)
        else:
            prediction = self._predictor.predict_matrix(encoded.matrix)
            request = request._replace(doubles=encoded.doubles)
        prediction_id = self.answering.settle(columns, prediction, request)
        return Answer(prediction_id=prediction_id, prediction=prediction, num_rows=num_rows)

    def values(self, answer: Answer) -> dict[str, list[Any]]:
        """Flat values by output name."""
        return self.answering.values(answer.prediction)

    def check_model(self, name: str, version: str | None) -> None:
        """Nothing, if that model is served here; None is any version.

        Raises:
            RequestError: 404.
        """
        predictor = self._predictor
        if name != predictor.name:
            served = _that_are(model.name for model in self._models.all)
            raise RequestError(404, f"model {shorten(name)} is not served here; {served}.")
        if version is not None and version != predictor.version:
            served = _that_are(model.version for model in self._models.all if model.name == name)
            raise RequestError(404, f"version {shorten(version)} of {name} is not served here; {served}.")

    def metadata(self) -> dict[str, Any]:
        """Of the model, as the Open Inference Protocol has it."""
        card = self._predictor.bundle.card
        properties = {"family": card.family, "task": card.task, "trial_id": card.trial_id}
        if self._predictor.classes:
            properties["classes"] = json.dumps(list(self._predictor.classes))
        if self.tensors.matrix is not None:
            properties["matrix_input"] = json.dumps(self.tensors.matrix.to_json())
        return {
            "name": self._predictor.name,
            "versions": [self._predictor.version],
            "platform": "onnxruntime_onnx",
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
            "properties": properties,
        }

    def _num_rows(self, columns: Mapping[str, list[Any]]) -> int:
        refuse_unknown((name for name in columns if name not in self._ignored), self.names, where="the model's columns")
        num_rows = max((len(values) for values in columns.values()), default=0)
        if num_rows > self.limits.max_rows:
            detail = f"The request has {num_rows} rows; send at most {self.limits.max_rows} in one."
            raise RequestError(422, detail)
        return num_rows

    def _predict(self, columns: Mapping[str, list[Any]]) -> Prediction:
        try:
            return self._predictor.predict(columns_to_table(columns, self._predictor.schema))
        except RowError as error:
            raise RequestError(422, shorten(str(error), 500), field=shorten(error.field)) from error
        except DataError as error:
            raise RequestError(422, shorten(str(error), 500)) from error
        except RecursionError as error:
            raise malformed("A value nests too deeply; send plain numbers, strings, booleans or null.") from error


def _that_are(served: Iterable[str]) -> str:
    names = list(dict.fromkeys(served))
    return f"{shorten(', '.join(names), 300)} {'is' if len(names) == 1 else 'are'}"
