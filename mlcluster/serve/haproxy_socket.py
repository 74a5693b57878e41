"""The runtime API of a running HAProxy: commands through its Unix socket, without a reload."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from mlcluster.errors import ClusterError
from mlcluster.serve.haproxy_config import BACKEND, Address, slot_name

_TIMEOUT_SECONDS = 2.0


def enabling(index: int, address: Address) -> tuple[str, ...]:
    """Commands that put a replica into a slot, and send requests to it."""
    server = f"{BACKEND}/{slot_name(index)}"
    return (
        f"set server {server} addr {address.host} port {address.port}",
        f"set server {server} state ready",
        # What an earlier replica of this slot was found to be says nothing about this one.
        f"set server {server} health up",
    )


def draining(index: int) -> tuple[str, ...]:
    """Commands after which a slot gets no new request; those in flight go on."""
    return (f"set server {BACKEND}/{slot_name(index)} state drain",)


def freeing(index: int) -> tuple[str, ...]:
    """Commands that take a slot out of use."""
    return (f"set server {BACKEND}/{slot_name(index)} state maint",)


def command(path: Path, commands: Sequence[str]) -> str:
    """What HAProxy says to `commands`, one after another; empty where all is well.

    Raises:
        ClusterError: nothing listens at `path`, or it does not answer in time.
    """
    answer = bytearray()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_TIMEOUT_SECONDS)
            connection.connect(str(path))
            connection.sendall(";".join(commands).encode() + b"\n")
            while data := connection.recv(65536):
                answer += data
    except OSError as error:
        raise ClusterError(f"front = {path.name} does not answer ({error}); see the log of the front.") from error
    return answer.decode(errors="replace").strip()
