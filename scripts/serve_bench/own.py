"""Our own application, with everything switched on: validation, metrics, prediction ids and records on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlcluster.registry import Bundle
from mlcluster.serve import NoRecords, PredictionLog, Predictor, build_app
from mlcluster.serve.record_stream import Rotation

_OFTEN = Rotation(max_bytes=4 * 2**20)
"""So that each run of some seconds closes files, as a longer one does."""


def build(bundle: Bundle, records: Path | None) -> Any:
    sink = NoRecords() if records is None else PredictionLog(records, rotation=_OFTEN)
    return build_app(Predictor(bundle), record=sink)
