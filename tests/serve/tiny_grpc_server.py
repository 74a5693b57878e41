"""A replica's gRPC server alone: `python -m tests.serve.tiny_grpc_server PORT SECONDS` predicts after SECONDS."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from mlcluster.serve import NoRecords, Predictor, build_app
from mlcluster.serve.grpc.server import GrpcServer
from mlcluster.serve.grpc.service import InferenceService
from tests.registry.bundles import sample_bundle

infer_now = InferenceService._infer_now


def slowly(self: InferenceService, *arguments: Any) -> Any:
    if sys.argv[2] != "0":
        time.sleep(float(sys.argv[2]))
    return infer_now(self, *arguments)


async def main() -> None:
    app = build_app(Predictor(sample_bundle()), record=NoRecords())
    server = GrpcServer(app.by_columns, host="127.0.0.1", port=int(sys.argv[1]))
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    InferenceService._infer_now = slowly  # type: ignore[method-assign]
    asyncio.run(main())
