"""Servers to fetch from, each on a free loopback port of its own: PostgreSQL, HTTP and a stand-in for S3."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

_START_SECONDS = 30.0


def postgres_programs() -> Path:
    """The folder of `postgres` and `initdb`; the test is skipped where there is none."""
    found = [Path(path).resolve().parent for path in (shutil.which("initdb"), shutil.which("postgres")) if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in found:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    pytest.skip("PostgreSQL is not on this machine (Debian: apt-get install postgresql)")


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of an empty data base that knows the user `reader` with the password `open sesame`."""
    programs = postgres_programs()
    folder = Path(tempfile.mkdtemp(prefix="mlc-pg-"))
    # PostgreSQL refuses to run as root.
    somebody: dict[str, object] = {}
    if os.getuid() == 0:
        somebody = {"user": 65534, "group": 65534, "extra_groups": ()}
        os.chown(folder, 65534, 65534)
    (folder / "word").write_text("open sesame")
    (folder / "word").chmod(0o644)
    made = [str(programs / "initdb"), "-D", str(folder / "data"), "-U", "reader", "-A", "scram-sha-256", "--no-sync"]
    with (folder / "log").open("wb") as log:
        subprocess.run(
            [*made, f"--pwfile={folder / 'word'}"],
            check=True,
            stdout=log,
            stderr=log,
            cwd=folder,
            **somebody,  # type: ignore[call-overload]
        )
        port = free_port()
        options = ["-p", str(port), "-k", str(folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        server = subprocess.Popen(
            [str(programs / "postgres"), "-D", str(folder / "data"), *options],
            stdout=log,
            stderr=log,
            cwd=folder,
            **somebody,  # type: ignore[call-overload]
        )
        try:
            _wait_for(port)
            _wait_for_line(folder / "log", "ready to accept connections")
            yield f"postgresql://reader@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # fast shutdown: ends the sessions too
            server.wait(timeout=30)
            shutil.rmtree(folder)


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on port {port}")


def _wait_for_line(log: Path, words: str) -> None:
    until = time.monotonic() + _START_SECONDS
    while words not in log.read_text():
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.05)


@dataclass
class Answer:
    """What a path gives. `cut_to` bytes of the body are sent where it is given, and then the line is dropped."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_to: int | None = None


@dataclass
class HttpSite:
    """A site whose pages a test sets. Answers with an ETag or Last-Modified are 304 to who knows them."""

    url: str
    pages: dict[str, Answer] = field(default_factory=dict)
    log: list[tuple[str, int]] = field(default_factory=list)
    seen: list[Mapping[str, str]] = field(default_factory=list)
    """The headers of each request."""


@contextmanager
def http_site() -> Iterator[HttpSite]:
    """A real HTTP server in a thread."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    site = HttpSite(url=f"http://127.0.0.1:{server.server_address[1]}")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = site.pages.get(self.path.partition("?")[0], Answer(status=404))
            site.seen.append(dict(self.headers))
            known = self.headers.get("If-None-Match") or self.headers.get("If-Modified-Since")
            is_known = known is not None and known in (answer.headers.get("ETag"), answer.headers.get("Last-Modified"))
            status = 304 if is_known else answer.status
            site.log.append((self.path, status))
            self.send_response(status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            body = b"" if is_known else answer.body
            if "Content-Length" not in answer.headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: answer.cut_to])

        def log_message(self, *_: object) -> None:
            pass

    server.RequestHandlerClass = Handler
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def s3() -> Iterator[Callable[[str], str]]:
    """A stand-in for S3 with an empty bucket `lake`; gives a function from a path in it to its URI.

    A process of its own: who waits for it in this one may hold the interpreter's lock meanwhile.
    """
    pytest.importorskip("moto.server", reason="needs mlcluster[test]")
    from pyarrow import fs

    port = free_port()
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_for(port)
            options = f"endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
            filesystem = fs.FileSystem.from_uri(f"s3://me:secret@lake?{options}&allow_bucket_creation=true")[0]
            filesystem.create_dir("lake")
            yield lambda path: f"s3://lake/{path}?{options}"
        finally:
            server.terminate()
            server.wait(timeout=30)
