"""A replica's HTTP server whose model is slow: `python -m tests.serve.slow_replica PORT SECONDS`."""

from __future__ import annotations

import sys
import time
from typing import Any

import uvicorn

from mlcluster.serve import NoRecords, Predictor, build_app
from mlcluster.serve.http_server import server_config
from tests.registry.bundles import sample_bundle

predict_matrix = Predictor.predict_matrix


def slowly(self: Predictor, features: Any) -> Any:
    time.sleep(float(sys.argv[2]))
    return predict_matrix(self, features)


if __name__ == "__main__":
    Predictor.predict_matrix = slowly  # type: ignore[method-assign]
    app = build_app(Predictor(sample_bundle()), record=NoRecords())
    uvicorn.Server(server_config(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error")).run()
