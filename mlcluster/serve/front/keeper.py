"""The process that holds the front door's port and keeps an HAProxy behind it.

The port is inherited, by this process and by HAProxy: while a killed one is started again (a tenth of a second) the
kernel keeps new connections waiting, and none is refused. It is started as a script of its own, with nothing but
the standard library, so that it weighs 10 MiB and outlives the actor that steers it; it ends, with HAProxy, when the
process `--watch` does.

SIGHUP takes up a changed configuration: a second HAProxy starts on the same port, the first ends once it has answered
what it holds. SIGTERM ends both. Where this process is killed, its HAProxy ends in the same way as a former one: it
takes no new connection and answers what it holds.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

PORT_VARIABLE = "MLCLUSTER_FRONT_FD"
"""The environment variable that tells HAProxy which of its descriptors is the port."""
_POLL_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1
_LEAST_LIFE_SECONDS = 1.0
"""An HAProxy that ends sooner is not started again at once: it would take a whole core to fail."""


class Keeper:
    """Keeps one HAProxy running on `listener`; `run` ends when it is told to, or with the process it watches."""

    def __init__(self, listener: socket.socket, *, haproxy: str, config: Path, watched_pid: int) -> None:
        self._listener = listener
        self._haproxy = haproxy
        self._config = config
        self._watched_pid = watched_pid
        self._current: subprocess.Popen[bytes] | None = None
        self._former: list[subprocess.Popen[bytes]] = []
        self._started_at = 0.0
        self._must_reload = False
        self._must_end = False

    def run(self) -> None:
        signal.signal(signal.SIGHUP, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)
        self._start()
        while not self._must_end and is_alive(self._watched_pid):
            self._step()
            time.sleep(_POLL_SECONDS)
        for process in (self._current, *self._former):
            if process is not None:
                process.kill()
                process.wait()

    def _step(self) -> None:
        self._former = [process for process in self._former if process.poll() is None]
        if self._must_reload:
            self._must_reload = False
            if self._is_valid():
                self._start(takes_over=True)
        elif self._current is None or self._current.poll() is not None:
            if time.monotonic() - self._started_at < _LEAST_LIFE_SECONDS:
                time.sleep(_LEAST_LIFE_SECONDS / 2)
            self._start()

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._must_reload = self._must_reload or number == signal.SIGHUP
        self._must_end = self._must_end or number == signal.SIGTERM

    def _is_valid(self) -> bool:
        return self._run("-c", "-q").wait() == 0

    def _start(self, *, takes_over: bool = False) -> None:
        former = self._current if takes_over and self._current is not None and self._current.poll() is None else None
        arguments = [] if former is None else ["-sf", str(former.pid)]
        self._started_at = time.monotonic()
        self._current = self._run("-db", *arguments)
        if former is not None:
            self._former.append(former)

    def _run(self, *arguments: str) -> subprocess.Popen[bytes]:
        descriptor = self._listener.fileno()
        return subprocess.Popen(  # noqa: S603 - our own words, no shell
            [self._haproxy, "-f", str(self._config), *arguments],
            env={**os.environ, PORT_VARIABLE: str(descriptor)},
            pass_fds=(descriptor,),
            stdin=subprocess.DEVNULL,
            preexec_fn=_finish_with_parent,  # noqa: PLW1509 - this process has one thread
        )


def _finish_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits for its parent does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; `host` is an address of IPv4 or IPv6."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(4096)
    except OSError:
        listener.close()
        raise
    return listener


def main(arguments: Sequence[str]) -> None:
    """Runs until the watched process ends; then the folder of the configuration goes too."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--haproxy", required=True)
    parser.add_argument("--config", required=True, type=Path)
    parser.add_argument("--listener", required=True, type=int)
    parser.add_argument("--watch", required=True, type=int)
    options = parser.parse_args(arguments)
    with contextlib.closing(socket.socket(fileno=options.listener)) as listener:
        Keeper(listener, haproxy=options.haproxy, config=options.config, watched_pid=options.watch).run()
    if not is_alive(options.watch):
        shutil.rmtree(options.config.parent, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
