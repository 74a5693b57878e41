"""Ray Serve as its documentation shows it: one replica of a class that takes requests; the model is `answering.py`."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

HAPROXY_FILES = {
    "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "haproxy.cfg",
    "RAY_SERVE_HAPROXY_SOCKET_PATH": "admin.sock",
    "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "",
    "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "server-state",
}
HAPROXY_PORTS = ("RAY_SERVE_HAPROXY_METRICS_PORT", "RAY_SERVE_HAPROXY_STATS_PORT")


def run(bundle_folder: Path, port: int, scratch: Path, *, with_haproxy: bool) -> None:
    """A Ray of its own with the endpoint on `port`, until it is ended."""
    if with_haproxy:
        os.environ |= {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
        os.environ |= {name: str(scratch / "haproxy" / file) for name, file in HAPROXY_FILES.items()}
        os.environ |= {name: str(_free_port()) for name in HAPROXY_PORTS}
        (scratch / "haproxy").mkdir(exist_ok=True)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions, ProxyLocation
    from starlette.requests import Request
    from starlette.responses import Response

    from mlcluster.registry import Bundle
    from serve_bench.answering import ByHand

    class Model:
        def __init__(self, folder: str) -> None:
            self._model = ByHand(Bundle.read(Path(folder)))

        async def __call__(self, request: Request) -> Response:
            if request.method != "POST":
                return Response()
            body = await request.body()
            if request.url.path == "/invocations":
                return Response(self._model.invoke(body), media_type="application/json")
            content, length = self._model.infer(body, request.headers.get("inference-header-content-length"))
            headers = {} if length is None else {"inference-header-content-length": str(length)}
            return Response(content, headers=headers, media_type="application/json")

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    folder = scratch / ("rh" if with_haproxy else "r")
    modules = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}}
    ray.init(address="local", num_cpus=2, include_dashboard=False, _temp_dir=str(folder), runtime_env=modules)
    serve.start(proxy_location=ProxyLocation.HeadOnly, http_options=HTTPOptions(host="127.0.0.1", port=port))
    deployment = serve.deployment(Model, max_ongoing_requests=256, logging_config={"enable_access_log": False})
    serve.run(deployment.bind(str(bundle_folder)), route_prefix="/")
    while True:
        signal.pause()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
