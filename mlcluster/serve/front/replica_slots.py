"""Which replica stands in which slot of the front: a table, and what each change of it is to HAProxy.

Replicas of one application at a time have slots. Those of another one, a new version that is being tried, are kept as
candidates until it takes over; the former ones then get no new request, and go when they have answered what they have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlcluster.serve.front.haproxy_config import BACKEND, GRPC_BACKEND, Address
from mlcluster.serve.front.haproxy_socket import draining, enabling, freeing

_STALE_SECONDS = 30.0
"""A replica that has not spoken for so long is gone; that it does not answer, HAProxy sees within half a second."""
_EVICTED_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaSocket:
    """Where a replica answers."""

    app: str
    """The application of Ray Serve that it belongs to."""
    replica_id: str
    address: Address
    grpc: Address | None = None
    """Where it speaks gRPC; None where it does not."""

    @property
    def sockets(self) -> dict[str, Address]:
        """By the backend that they belong to."""
        return {BACKEND: self.address} if self.grpc is None else {BACKEND: self.address, GRPC_BACKEND: self.grpc}


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """A replica in its slot."""

    replica: ReplicaSocket
    heard_at: float
    """Seconds of the caller's clock."""
    is_draining: bool = False


class ReplicaSlots:
    """The table. Each method gives the commands that bring HAProxy in line with it; none where nothing changes."""

    def __init__(self, num_slots: int, app: str) -> None:
        self._slots: list[Slot | None] = [None] * num_slots
        self._app = app
        self._candidates: dict[str, Slot] = {}

    @property
    def addresses(self) -> tuple[Address | None, ...]:
        """By slot, of the replicas that take new requests."""
        return tuple(None if slot is None or slot.is_draining else slot.replica.address for slot in self._slots)

    @property
    def grpc_addresses(self) -> tuple[Address | None, ...]:
        """The same for gRPC."""
        return tuple(None if slot is None or slot.is_draining else slot.replica.grpc for slot in self._slots)

    @property
    def taken(self) -> tuple[Slot | None, ...]:
        return tuple(self._slots)

    def candidates(self, app: str) -> list[ReplicaSocket]:
        """Replicas of an application that has not taken over."""
        return [slot.replica for slot in self._candidates.values() if slot.replica.app == app]

    def register(self, replica: ReplicaSocket, *, now: float) -> tuple[str, ...]:
        """A replica says where it answers: at first, and then again and again.

        Where no slot is free, the one that has been silent for longest gives way; if none has been silent, the replica
        is not taken in, and will ask again.
        """
        index = self._find(replica.replica_id)
        if index is not None:
            slot = self._slots[index]
            assert slot is not None
            self._slots[index] = replace(slot, replica=replica, heard_at=now)
            is_known = slot.replica.sockets == replica.sockets
            return () if is_known or slot.is_draining else _enabling(index, replica)
        if replica.app != self._app:
            self._candidates[replica.replica_id] = Slot(replica=replica, heard_at=now)
            return ()
        index = self._free_index(now)
        if index is None:
            return ()
        self._slots[index] = Slot(replica=replica, heard_at=now)
        return _enabling(index, replica)

    def switch(self, app: str, *, now: float) -> tuple[str, ...]:
        """Another application takes over: its replicas get slots, and those of the former get no new request."""
        if app == self._app:
            return ()
        self._app = app
        promoted = self.candidates(app)
        self._candidates = {
            replica_id: slot for replica_id, slot in self._candidates.items() if slot.replica.app != app
        }
        lines = [line for replica in promoted for line in self.register(replica, now=now)]
        former = [slot.replica.replica_id for slot in self._slots if slot is not None and slot.replica.app != app]
        lines += [line for replica_id in former for line in self.drain(replica_id, now=now)]
        return tuple(lines)

    def drain(self, replica_id: str, *, now: float) -> tuple[str, ...]:
        """No new request for this replica, which has some to answer yet."""
        index = self._find(replica_id)
        if index is None:
            self._candidates.pop(replica_id, None)
            return ()
        slot = self._slots[index]
        assert slot is not None
        self._slots[index] = replace(slot, heard_at=now, is_draining=True)
        return tuple(line for backend in slot.replica.sockets for line in draining(index, backend))

    def forget(self, replica_id: str) -> tuple[str, ...]:
        """The replica has ended."""
        self._candidates.pop(replica_id, None)
        index = self._find(replica_id)
        if index is None:
            return ()
        slot, self._slots[index] = self._slots[index], None
        assert slot is not None
        return tuple(line for backend in slot.replica.sockets for line in freeing(index, backend))

    def forget_silent(self, *, now: float) -> tuple[str, ...]:
        """Frees the slots of replicas that have not spoken for half a minute."""
        slots = [slot for slot in (*self._slots, *self._candidates.values()) if slot is not None]
        silent = [slot.replica.replica_id for slot in slots if now - slot.heard_at > _STALE_SECONDS]
        return tuple(line for replica_id in silent for line in self.forget(replica_id))

    def restore(self, slots: tuple[Slot | None, ...]) -> None:
        """Takes over a table that was kept; slots beyond this one's size are dropped."""
        for index, slot in enumerate(slots[: len(self._slots)]):
            self._slots[index] = slot

    def _find(self, replica_id: str) -> int | None:
        return next(
            (
                index
                for index, slot in enumerate(self._slots)
                if slot is not None and slot.replica.replica_id == replica_id
            ),
            None,
        )

    def _free_index(self, now: float) -> int | None:
        ages = [float("inf") if slot is None else now - slot.heard_at for slot in self._slots]
        index = max(range(len(ages)), key=ages.__getitem__)
        return index if ages[index] > _EVICTED_SECONDS else None


def _enabling(index: int, replica: ReplicaSocket) -> tuple[str, ...]:
    return tuple(line for backend, address in replica.sockets.items() for line in enabling(index, address, backend))
