"""What does the model answer?

In: a `Bundle`. Out: a `Predictor`, the HTTP application around it, and a `PredictionRecord` of every answer. Not here:
Ray, which `ray_app.py` puts around the application; and training data, which serving never sees.
"""

from mlcluster.serve.http_app import build_app
from mlcluster.serve.plan import Endpoint, ServePlan
from mlcluster.serve.predictor import Prediction, Predictor
from mlcluster.serve.reception import RequestLimits
from mlcluster.serve.records import (
    JsonlRecordSink,
    NoRecords,
    PredictionId,
    PredictionRecord,
    RecordSink,
    find_record,
    new_prediction_id,
    parse_prediction_id,
)

__all__ = [
    "Endpoint",
    "JsonlRecordSink",
    "NoRecords",
    "Prediction",
    "PredictionId",
    "PredictionRecord",
    "Predictor",
    "RecordSink",
    "RequestLimits",
    "ServePlan",
    "build_app",
    "find_record",
    "new_prediction_id",
    "parse_prediction_id",
]
