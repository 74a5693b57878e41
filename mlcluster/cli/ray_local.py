"""The Ray that a command runs on: the cluster that a job was submitted to, or a local one that it starts.

A local Ray has a folder and a token of its own, listens on loopback only, and outlives the command, so that the
endpoint goes on answering until `mlcluster down`. It is ended by its own process id: `ray stop` would end every Ray
on the machine.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

from mlcluster.cli.workspace import write_json
from mlcluster.errors import ClusterError

log = logging.getLogger(__name__)

START_TIMEOUT_SECONDS = 90
STOP_TIMEOUT_SECONDS = 5
"""Ray itself would wait 30 s for its workers, and then kill them."""
_LOOPBACK = "127.0.0.1"


def is_on_cluster() -> bool:
    """Whether this process runs as a job on a cluster, and not on a Ray of its own."""
    return bool(os.environ.get("RAY_ADDRESS"))


class LocalRay:
    """The local Ray of one workspace; `folder` holds its token, its log and which process it is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state_file = folder / "ray.json"

    def connect(self, *, num_cpus: int, num_gpus: int = 0) -> None:
        """Connects this process: to the cluster named by RAY_ADDRESS, else to the local Ray, started where needed.

        Raises:
            ClusterError: it cannot be reached or started.
        """
        if _is_connected():
            return
        if os.environ.get("RAY_ADDRESS"):
            _init(address=os.environ["RAY_ADDRESS"])
            return
        self._set_environment()
        if not self.is_running():
            self._start(num_cpus, num_gpus)
        _init(address=json.loads(self._state_file.read_text())["address"])

    def is_running(self) -> bool:
        """Whether the process that was started is still there (and not another one under its number)."""
        return self._process() is not None

    def stop(self) -> bool:
        """Ends the local Ray, if there is one; says whether there was."""
        process = self._process()
        if process is not None:
            descendants = process.children(recursive=True)
            process.send_signal(signal.SIGTERM)
            _, alive = psutil.wait_procs([process, *descendants], timeout=STOP_TIMEOUT_SECONDS)
            for survivor in alive:
                with suppress(psutil.NoSuchProcess):  # it may end by itself between the wait and this
                    survivor.kill()
            psutil.wait_procs(alive, timeout=5)
        if self._state_file.exists():
            temporary = json.loads(self._state_file.read_text())["temp_dir"]
            shutil.rmtree(temporary, ignore_errors=True)
            self._state_file.unlink()
        return process is not None

    def _process(self) -> psutil.Process | None:
        if not self._state_file.exists():
            return None
        state = json.loads(self._state_file.read_text())
        try:
            process = psutil.Process(state["pid"])
            is_same = abs(process.create_time() - state["create_time"]) < 1.0
        except psutil.NoSuchProcess:
            return None
        return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None

    def _set_environment(self) -> None:
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")  # tries to reach a head, 40 s each
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(self._token_file())
        os.environ.pop("RAY_AUTH_TOKEN", None)
        # Ray takes 127.0.0.1 for "this machine's address" and goes looking for it, unless it is told that there is no
        # cluster to reach: the setting bears the name of the systems on which that is the default.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        if "ray" in sys.modules:  # it has read the setting already
            import ray._private.ray_constants

            ray._private.ray_constants.ENABLE_RAY_CLUSTER = False

    def _token_file(self) -> Path:
        path = self._folder / "token"
        if not path.exists():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
        return path.resolve()

    def _start(self, num_cpus: int, num_gpus: int) -> None:
        self.stop()
        # Not in the workspace: the path of a Unix socket may have 107 characters, and Ray uses 60 of them.
        temp_dir = tempfile.mkdtemp(prefix="mlc-")
        port, client_port, agent_port = _free_ports(3)
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
            *(f"--port={port}", f"--ray-client-server-port={client_port}"),
            *(f"--dashboard-agent-listen-port={agent_port}", f"--node-ip-address={_LOOPBACK}"),
            *("--include-dashboard=false", f"--temp-dir={temp_dir}"),
            *(f"--num-cpus={num_cpus}", f"--num-gpus={num_gpus}"),
        ]
        log_path = self._folder / "ray.log"
        with log_path.open("w") as output:
            process = subprocess.Popen(  # noqa: S603 - our own words, no shell
                command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
            )
        write_json(
            self._state_file,
            {
                "pid": process.pid,
                "create_time": psutil.Process(process.pid).create_time(),
                "address": f"{_LOOPBACK}:{port}",
                "temp_dir": temp_dir,
            },
        )
        self._wait_until_started(process, log_path)

    def _wait_until_started(self, process: subprocess.Popen[bytes], log_path: Path) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while "Ray runtime started" not in (text := log_path.read_text(errors="replace")):
            if process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                last = next((line for line in reversed(text.splitlines()) if line.strip()), "no output")
                raise ClusterError(f"the local Ray did not start ({last.strip()}); its log is {log_path.name}.")
            time.sleep(0.1)


def _is_connected() -> bool:
    """Without importing Ray, which reads its settings from the environment when it is imported."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


def disconnect() -> None:
    """Leaves Ray; what was deployed stays."""
    if _is_connected():
        import ray

        ray.shutdown()


def _init(address: str) -> None:
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=True)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ClusterError(
            f"Ray at {address} cannot be reached ({reason}); check the address and its token."
        ) from error


def _free_ports(count: int) -> list[int]:
    """Free ports outside of the range that Ray gives its workers (10002 to 19999)."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind((_LOOPBACK, 0))
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def is_port_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError:
            return False
    return True
