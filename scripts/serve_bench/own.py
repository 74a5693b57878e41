"""Our own application, with everything switched on: validation, metrics, prediction ids and records on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlcluster.registry import Bundle
from mlcluster.serve import JsonlRecordSink, NoRecords, Predictor, build_app


def build(bundle: Bundle, records: Path | None) -> Any:
    sink = NoRecords() if records is None else JsonlRecordSink(records)
    return build_app(Predictor(bundle), record=sink)
