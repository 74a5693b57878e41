"""The runtime API of a running HAProxy: commands through its Unix socket, without a reload."""

from __future__ import annotations

import csv
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlcluster.errors import ClusterError
from mlcluster.serve.front.haproxy_config import BACKEND, Address, slot_name

_TIMEOUT_SECONDS = 2.0


def enabling(index: int, address: Address, backend: str = BACKEND) -> tuple[str, ...]:
    """Commands that put a replica into a slot, and send requests to it."""
    server = f"{backend}/{slot_name(index)}"
    return (
        f"set server {server} addr {address.host} port {address.port}",
        f"set server {server} state ready",
        # What an earlier replica of this slot was found to be says nothing about this one.
        f"set server {server} health up",
    )


def draining(index: int, backend: str = BACKEND) -> tuple[str, ...]:
    """Commands after which a slot gets no new request; those in flight go on."""
    return (f"set server {backend}/{slot_name(index)} state drain",)


def freeing(index: int, backend: str = BACKEND) -> tuple[str, ...]:
    """Commands that take a slot out of use."""
    return (f"set server {backend}/{slot_name(index)} state maint",)


def mapping(file: Path, key: str, value: str) -> str:
    """The command that changes an entry of a map."""
    return f"set map {file} {key} {value}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerLoad:
    """What HAProxy counts of one server."""

    num_in_flight: int
    num_requests: int
    """Since HAProxy has started."""

    def __add__(self, other: ServerLoad) -> ServerLoad:
        return ServerLoad(
            num_in_flight=self.num_in_flight + other.num_in_flight, num_requests=self.num_requests + other.num_requests
        )


def read_loads(path: Path, backend: str = BACKEND) -> tuple[dict[int, ServerLoad], int]:
    """Loads by slot, and how many requests wait for a place at any of them.

    Raises:
        ClusterError: HAProxy does not answer.
    """
    rows = list(csv.DictReader(command(path, [f"show stat {backend} 6 -1"]).removeprefix("# ").splitlines()))
    names = {slot_name(index): index for index in range(len(rows))}
    loads = {
        names[row["svname"]]: ServerLoad(num_in_flight=int(row["scur"]), num_requests=int(row["stot"]))
        for row in rows
        if row["svname"] in names
    }
    return loads, next((int(row["qcur"]) for row in rows if row["svname"] == "BACKEND"), 0)


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
