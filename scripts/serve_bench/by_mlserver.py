"""MLServer with a runtime of one's own, which its documentation asks for where ONNX is to be served."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

_RUNTIME = "BENCH_RUNTIME"
"""Set where MLServer imports this module for its runtime."""


def run(bundle_folder: Path, port: int, scratch: Path) -> None:
    """MLServer in place of this process; it answers in the process that takes the requests, as the others do."""
    folder = scratch / "mlserver"
    folder.mkdir(exist_ok=True)
    ports = {"http_port": port, "grpc_port": 0, "metrics_port": 0}
    settings = {"host": "127.0.0.1", **ports, "parallel_workers": 0, "metrics_endpoint": None}
    (folder / "settings.json").write_text(json.dumps(settings))
    name = json.loads((bundle_folder / "card.json").read_text())["name"]
    parameters = {"uri": str(bundle_folder.resolve())}
    model = {"name": name, "implementation": "serve_bench.by_mlserver.Model", "parameters": parameters}
    (folder / "model-settings.json").write_text(json.dumps(model))
    os.environ |= {_RUNTIME: "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    words = ["-c", "from mlserver.cli import main; main()", "start", str(folder)]
    os.execv(sys.executable, [sys.executable, *words])


if _RUNTIME in os.environ:
    import orjson
    from mlserver import MLModel
    from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

    from mlcluster.registry import Bundle
    from serve_bench.answering import ByHand

    class Model(MLModel):
        """Tensors."""

        async def load(self) -> bool:
            self._by_hand = ByHand(Bundle.read(Path(self.settings.parameters.uri)))
            return True

        async def predict(self, payload: InferenceRequest) -> InferenceResponse:
            inputs = [{"name": tensor.name, "data": list(tensor.data)} for tensor in payload.inputs]
            answer = orjson.loads(self._by_hand.infer(orjson.dumps({"inputs": inputs}), None)[0])
            outputs = [ResponseOutput(**output) for output in answer["outputs"]]
            return InferenceResponse(model_name=self.name, outputs=outputs)
