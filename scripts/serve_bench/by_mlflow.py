"""`mlflow models serve` of the same bundle, which becomes the model that the registry of this project writes."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def run(bundle_folder: Path, port: int, scratch: Path) -> None:
    """MLflow's own server in place of this process."""
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    import mlflow

    model = scratch / "mlflow-model"
    mlflow.pyfunc.save_model(model, loader_module="mlcluster.serve.mlflow_loader", data_path=str(bundle_folder))
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(model), "--env-manager", "local"]
    # It starts uvicorn by its name.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(port)])
