"""The metadata services of three clouds, as their documentation has them, on a port of this machine."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

AWS_TOKEN_PATH = "/latest/api/token"
INSTANCE_ACTION = "/latest/meta-data/spot/instance-action"
REBALANCE = "/latest/meta-data/events/recommendations/rebalance"
GCP_PREEMPTED = "/computeMetadata/v1/instance/preempted"
AZURE_EVENTS = "/metadata/scheduledevents"
AZURE_NAME = "/metadata/instance/compute/name"


@dataclass
class Service:
    """`documents` by path; what is not there is 404. Each cloud's header is asked for."""

    url: str = ""
    documents: dict[str, str] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)
    """That AWS has given; the last one counts."""
    asked: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, headers: Any) -> tuple[int, str]:
        self.asked.append(f"{method} {path}")
        if path == AWS_TOKEN_PATH:
            if method != "PUT" or "X-aws-ec2-metadata-token-ttl-seconds" not in headers:
                return 400, "Bad Request"
            self.tokens.append(f"token-{len(self.tokens)}")
            return 200, self.tokens[-1]
        if path.startswith("/latest/") and headers.get("X-aws-ec2-metadata-token") not in self.tokens[-1:]:
            return 401, "Unauthorized"
        if path.startswith("/computeMetadata/") and headers.get("Metadata-Flavor") != "Google":
            return 403, "Forbidden"
        if path.startswith("/metadata/") and headers.get("Metadata") != "true":
            return 400, '{"error": "Bad request. Required metadata header not specified"}'
        document = self.documents.get(path)
        return (404, "Not Found") if document is None else (200, document)


def azure_events(event_type: str, *machines: str, not_before: str) -> str:
    event = {
        "EventId": "C7061BAC-AFDC-4513-B24B-AA5F13A16123",
        "EventStatus": "Scheduled",
        "EventType": event_type,
        "ResourceType": "VirtualMachine",
        "Resources": list(machines),
        "NotBefore": not_before,
        "Description": "",
        "EventSource": "Platform",
        "DurationInSeconds": -1,
    }
    return json.dumps({"DocumentIncarnation": 2, "Events": [event]})


@contextlib.contextmanager
def metadata_service(host: str = "127.0.0.1") -> Iterator[Service]:
    """One that answers until the end."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = service.answer(self.command, urlsplit(self.path).path, self.headers)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        do_PUT = do_GET

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer((host, 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    service.url = f"http://{host}:{server.server_address[1]}"
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
