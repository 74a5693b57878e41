"""Our own application, with everything switched on: validation, metrics, ids, records on disk and live statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlcluster.registry import Bundle
from mlcluster.serve import NoRecords, PredictionLog, Predictor, RecordSink
from mlcluster.serve.http_app import AppContext, app_within
from mlcluster.serve.live_statistics import StatisticsBoard
from mlcluster.serve.records.stream import Rotation

_OFTEN = Rotation(max_bytes=4 * 2**20)
"""So that each run of some seconds closes files, as a longer one does."""


def build(bundle: Bundle, records: Path | None, *, with_statistics: bool = True) -> Any:
    """Without a folder for records there are no statistics either."""
    board = StatisticsBoard(window_seconds=3600) if records is not None and with_statistics else None
    sink: RecordSink = NoRecords()
    if records is not None:
        sink = PredictionLog(records, rotation=_OFTEN, watch=None if board is None else board.add)
    return app_within(AppContext(sink, statistics=board), Predictor(bundle))
