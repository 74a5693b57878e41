"""Where is a run written down?

In: a `RunRecord` of plain values. Out: a run id. `mlflow_tracker` stores it in MLflow, `MemoryTracker` keeps it. Not
here: what is worth writing down.
"""

from mlcluster.tracking.records import DatasetRecord, MemoryTracker, MetricPoint, RunRecord, Tracker

__all__ = ["DatasetRecord", "MemoryTracker", "MetricPoint", "RunRecord", "Tracker"]
