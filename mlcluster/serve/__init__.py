"""What does the model answer?

In: a `Bundle`. Out: a `Predictor`, the HTTP application around it, and a `PredictionRecord` of every answer. Not here:
Ray, which `ray_app.py` puts around the application; and training data, which serving never sees.
"""

from mlcluster.serve.http_app import build_app
from mlcluster.serve.plan import Endpoint, ServePlan
from mlcluster.serve.prediction_ids import PredictionId, new_prediction_id, parse_prediction_id
from mlcluster.serve.prediction_log import PredictionLog
from mlcluster.serve.predictor import Prediction, Predictor
from mlcluster.serve.reception import RequestLimits
from mlcluster.serve.record_layout import PredictionRecord
from mlcluster.serve.record_reading import find_record, read_records
from mlcluster.serve.records import NoRecords, RecordSink

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
