"""The limit of Python: a raw ASGI application on uvicorn, orjson and ONNX Runtime, which checks and counts nothing."""

from __future__ import annotations

from typing import Any

from mlcluster.registry import Bundle
from serve_bench.answering import ByHand


def build(bundle: Bundle) -> Any:
    model = ByHand(bundle)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] == "GET":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        message = await receive()
        body = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        length = None
        if scope["path"] == "/invocations":
            content = model.invoke(body)
        else:
            header_length = None
            for name, value in scope["headers"]:
                if name == b"inference-header-content-length":
                    header_length = value.decode()
            content, length = model.infer(body, header_length)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        if length is not None:
            headers.append((b"inference-header-content-length", str(length).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    return app
