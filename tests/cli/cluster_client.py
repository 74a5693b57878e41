"""A project and a client of a small Ray cluster on this machine, with a token of their own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.cli.projects import ROOT, Outcome, run_process


@dataclass(frozen=True, kw_only=True)
class ClusterClient:
    """A project whose cluster file prices the nodes of a cluster, and its verbs said there."""

    folder: Path
    env: dict[str, str]

    def call(self, *words: str) -> Outcome:
        return run_process(self.folder, *words, env=self.env, timeout=200)


@contextmanager
def client_of(folder: Path, start: Callable[[str, Path], AbstractContextManager[str]]) -> Iterator[ClusterClient]:
    """Of the cluster that `start` gives the address of, by a temporary folder and the file of a token."""
    shutil.copytree(ROOT / "cluster-configs", folder / "cluster-configs")
    file = folder / "cluster-configs" / "aws-cpu.yaml"
    # Workers of the file have eight CPUs, and the machine of the tests may have two: they are to have one.
    file.write_text(file.read_text().replace('resources: {"CPU": 8}', 'resources: {"CPU": 1}'))
    # The path of a Unix socket may have 107 characters, and Ray uses 60 of them.
    temp_dir = tempfile.mkdtemp(prefix="mlc-")
    token = Path(temp_dir) / "token"
    descriptor = os.open(token, os.O_WRONLY | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "w") as written:
        written.write(secrets.token_hex(32))
    try:
        with start(temp_dir, token) as address:
            env = {
                "RAY_ADDRESS": address,
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN_PATH": str(token),
                "MLCLUSTER_HOME": str(folder / "home"),
            }
            yield ClusterClient(folder=folder, env=env)
    finally:
        shutil.rmtree(temp_dir, ignore_errors=True)


def end_processes(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=5)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
