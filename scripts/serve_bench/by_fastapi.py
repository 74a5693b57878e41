"""FastAPI as its documentation shows it: pydantic models in, dictionaries out; the model as in `answering.py`."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from mlcluster.registry import Bundle
from serve_bench.answering import ByHand


class Tensor(BaseModel):
    """One column."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float | int | bool | str | None]


class InferRequest(BaseModel):
    """A request of tensors."""

    inputs: list[Tensor]


class Split(BaseModel):
    """Rows."""

    columns: list[str]
    data: list[list[float | int | bool | str | None]]


class Invocation(BaseModel):
    """A request of rows."""

    dataframe_split: Split


def build(bundle: Bundle) -> FastAPI:
    app, model = FastAPI(), ByHand(bundle)

    @app.post("/v2/models/{name}/infer")
    async def infer(name: str, request: Request) -> Any:  # noqa: ARG001 - FastAPI reads it
        body, length = await request.body(), request.headers.get("inference-header-content-length")
        if length is None:
            checked = InferRequest.model_validate_json(body)
            return orjson.loads(model.infer(orjson.dumps(checked.model_dump()), None)[0])
        content, document = model.infer(body, length)
        return Response(content, headers={"inference-header-content-length": str(document)})

    @app.post("/invocations")
    async def invoke(request: Invocation) -> Any:
        return orjson.loads(model.invoke(orjson.dumps(request.model_dump())))

    @app.get("/ready")
    async def ready() -> Any:
        return {}

    return app
