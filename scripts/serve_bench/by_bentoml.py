"""BentoML as its documentation shows it: a service class with two routes; the model as in `answering.py`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

_BUNDLE = "BENCH_BUNDLE"
"""The variable that tells the service its bundle: BentoML imports it by name in a process of its own."""


def run(bundle_folder: Path, port: int, scratch: Path) -> None:
    """BentoML's own server in place of this process; one worker, as the others have."""
    scripts = Path(__file__).resolve().parents[1]
    os.environ |= {_BUNDLE: str(bundle_folder), "BENTOML_DO_NOT_TRACK": "true", "BENTOML_HOME": str(scratch / "bento")}
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    words = ["-m", "bentoml", "serve", "serve_bench.by_bentoml:Model", "--working-dir", str(scripts)]
    os.execv(sys.executable, [sys.executable, *words, "--host", "127.0.0.1", "--port", str(port)])


if _BUNDLE in os.environ:
    import bentoml
    import orjson

    from mlcluster.registry import Bundle
    from serve_bench.answering import ByHand

    @bentoml.service(workers=1, traffic={"timeout": 60})
    class Model:
        """Tensors, and rows."""

        def __init__(self) -> None:
            self._model = ByHand(Bundle.read(Path(os.environ[_BUNDLE])))

        @bentoml.api(route="/v2/models/{name}/infer")
        def infer(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
            return dict(orjson.loads(self._model.infer(orjson.dumps({"inputs": inputs}), None)[0]))

        @bentoml.api(route="/invocations")
        def invoke(self, dataframe_split: dict[str, Any]) -> dict[str, Any]:
            return dict(orjson.loads(self._model.invoke(orjson.dumps({"dataframe_split": dataframe_split}))))
