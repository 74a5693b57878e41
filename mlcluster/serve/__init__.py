"""What does the model answer?

In: a `Bundle`. Out: a `Predictor`, the HTTP application around it, and a `PredictionRecord` of every answer. Not here:
Ray, which `ray_app.py` puts around the application; and training data, which serving never sees.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlcluster.serve.http_app import build_app
    from mlcluster.serve.plan import Endpoint, ServePlan
    from mlcluster.serve.prediction_ids import PredictionId, new_prediction_id, parse_prediction_id
    from mlcluster.serve.predictor import Prediction, Predictor
    from mlcluster.serve.reception import RequestLimits
    from mlcluster.serve.records.answered import NoRecords, RecordSink
    from mlcluster.serve.records.layout import PredictionRecord
    from mlcluster.serve.records.prediction_log import PredictionLog
    from mlcluster.serve.records.reading import find_record, read_records

_MODULES = {
    "Endpoint": "plan",
    "NoRecords": "records.answered",
    "Prediction": "predictor",
    "PredictionId": "prediction_ids",
    "PredictionLog": "records.prediction_log",
    "PredictionRecord": "records.layout",
    "Predictor": "predictor",
    "RecordSink": "records.answered",
    "RequestLimits": "reception",
    "ServePlan": "plan",
    "build_app": "http_app",
    "find_record": "records.reading",
    "new_prediction_id": "prediction_ids",
    "parse_prediction_id": "prediction_ids",
    "read_records": "records.reading",
}
__all__ = [
    "Endpoint",
    "NoRecords",
    "Prediction",
    "PredictionId",
    "PredictionLog",
    "PredictionRecord",
    "Predictor",
    "RecordSink",
    "RequestLimits",
    "ServePlan",
    "build_app",
    "find_record",
    "new_prediction_id",
    "parse_prediction_id",
    "read_records",
]


def __getattr__(name: str) -> Any:
    # Late: whoever makes Parquet of records needs no model, and none of the 350 MB that come with one.
    if name in _MODULES:
        return getattr(import_module(f"mlcluster.serve.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'mlcluster.serve' has no attribute {name!r}")
