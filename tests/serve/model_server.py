"""A replica's own server in a process: `python -m tests.serve.model_server PORT`, slow or with records if told so."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import uvicorn

from mlcluster.registry import Bundle
from mlcluster.serve import NoRecords, PredictionLog, Predictor, build_app
from mlcluster.serve.http_server import server_config
from tests.registry.bundles import sample_bundle


class SlowPredictor(Predictor):
    """Takes so many seconds more for each request, in the model itself."""

    seconds = 0.0

    def predict_matrix(self, features: Any) -> Any:
        time.sleep(self.seconds)
        return super().predict_matrix(features)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--seconds", type=float, default=0.0, help="that each prediction takes more")
    parser.add_argument("--bundle", type=Path, help="of the model; the sample of the tests where it is left out")
    parser.add_argument("--records", type=Path, help="where predictions are written; left out, nowhere")
    given = parser.parse_args()
    predictor = SlowPredictor(Bundle.read(given.bundle) if given.bundle else sample_bundle())
    predictor.seconds = given.seconds
    app = build_app(predictor, record=PredictionLog(given.records) if given.records else NoRecords())
    uvicorn.Server(server_config(app, host="127.0.0.1", port=given.port, log_level="error")).run()


if __name__ == "__main__":
    main()
