"""A server in a process of its own, and what its whole tree of processes has burnt."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_START_SECONDS = 120.0
OURS = ("ours", "ours-no-statistics", "ours-no-records")
SERVERS = ("bare", "fastapi", *OURS, "ours-front", "ray-serve", "ray-serve-haproxy", "mlflow")
PEERS = ("bentoml", "mlserver")
"""Servers whose packages do not go with ours: each needs an interpreter that finds our packages behind its own."""
FORMS_OF: dict[str, tuple[str, ...]] = {"mlflow": ("rows",), "bentoml": ("json", "rows"), "mlserver": ("json",)}
"""Of the servers that do not speak both protocols."""


class NotStartedError(Exception):
    """A server that is not to be had here; the reason is its message."""


class Server:
    """One that answers on `port` of loopback."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.port = port
        self._process = psutil.Process(process.pid)

    @property
    def cpu_seconds(self) -> float:
        """Of the process and all below it, up to now."""
        total = 0.0
        for process in (self._process, *self._process.children(recursive=True)):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
        return total


@contextmanager
def served(script: Path, server: str, bundle: Path, scratch: Path, *, python: str = sys.executable) -> Iterator[Server]:
    """The server, run by `python`, once it answers; it is ended afterwards."""
    port = _free_port()
    command = [python, str(script), "--child", server, "--bundle", str(bundle), "--port", str(port)]
    root = str(script.resolve().parents[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    log = (scratch / f"{server}.log").open("ab")
    process = subprocess.Popen([*command, "--scratch", str(scratch)], stderr=log, stdout=log, env=environment)
    try:
        try:
            # A proxy answers 404 for as long as nothing is behind it.
            _wait(process, port, any_answer=not server.startswith("ray-serve"))
        except NotStartedError as error:
            raise NotStartedError(f"{error} ({_last_line(scratch / f'{server}.log')})") from error
        yield Server(process, port)
    finally:
        process.terminate()
        process.wait(timeout=60)
        log.close()


def run(server: str, bundle_folder: Path, port: int, scratch: Path) -> None:
    """In the child: the server, until it is ended."""
    if server.startswith("ray-serve"):
        from serve_bench.by_ray import run as run_ray

        run_ray(bundle_folder, port, scratch, with_haproxy=server == "ray-serve-haproxy")
    elif server == "ours-front":
        from serve_bench.behind_front import run as run_behind_front

        run_behind_front(bundle_folder, port, scratch)
    elif server == "mlflow":
        from serve_bench.by_mlflow import run as run_mlflow

        run_mlflow(bundle_folder, port, scratch)
    elif server == "bentoml":
        from serve_bench.by_bentoml import run as run_bentoml

        run_bentoml(bundle_folder, port, scratch)
    elif server == "mlserver":
        from serve_bench.by_mlserver import run as run_mlserver

        run_mlserver(bundle_folder, port, scratch)
    else:
        _run_here(server, bundle_folder, port, scratch)


def _run_here(server: str, bundle_folder: Path, port: int, scratch: Path) -> None:
    import uvicorn

    from mlcluster.registry import Bundle

    bundle = Bundle.read(bundle_folder)
    if server == "bare":
        from serve_bench.bare import build

        app = build(bundle)
    elif server == "fastapi":
        from serve_bench.by_fastapi import build

        app = build(bundle)
    else:
        from mlcluster.serve.http_server import server_config
        from serve_bench.own import build

        kept = None if server == "ours-no-records" else scratch / server
        app = build(bundle, kept, with_statistics=server == "ours")
        uvicorn.Server(server_config(app, host="127.0.0.1", port=port, log_level="error")).run()
        return
    uvicorn.run(app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", access_log=False, log_level="error")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][-200:] if lines else "it said nothing"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], port: int, *, any_answer: bool) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise NotStartedError(f"it ended with {process.returncode}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5):
                return
        except urllib.error.HTTPError:
            if any_answer:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise NotStartedError("it did not answer in time")
