"""A server in the place of a replica: `python tiny_server.py PORT SECONDS NAME` answers its name after SECONDS."""

from __future__ import annotations

import asyncio
import sys

import uvicorn


async def app(scope, receive, send) -> None:
    if scope["type"] != "http":
        return
    status = 200
    if scope["method"] == "POST":
        while (await receive()).get("more_body"):
            pass
        await asyncio.sleep(float(sys.argv[2]))
    headers = dict(scope["headers"])
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    lines = [(b"x-seen-id", headers.get(b"x-request-id", b"")), (b"x-seen-path", scope["raw_path"] + query)]
    lines += [(b"x-seen-" + name, headers.get(name, b"")) for name in (b"traceparent", b"tracestate")]
    lines.append((b"x-seen-headers", b" ".join(sorted(headers))))
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": sys.argv[3].encode()})


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", timeout_keep_alive=75)
