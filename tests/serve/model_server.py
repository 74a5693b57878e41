"""A replica's own server that keeps records: `python recording_server.py BUNDLE PORT RECORDS`."""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn

from mlcluster.registry import Bundle
from mlcluster.serve import PredictionLog, Predictor, build_app
from mlcluster.serve.http_server import server_config

if __name__ == "__main__":
    predictor = Predictor(Bundle.read(Path(sys.argv[1])))
    app = build_app(predictor, record=PredictionLog(Path(sys.argv[3])))
    uvicorn.Server(server_config(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")).run()
