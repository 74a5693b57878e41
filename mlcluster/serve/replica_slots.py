"""Which replica stands in which slot of the front: a table, and what each change of it is to HAProxy."""

from __future__ import annotations

from dataclasses import dataclass

from mlcluster.serve.haproxy_config import Address
from mlcluster.serve.haproxy_socket import draining, enabling, freeing

_STALE_SECONDS = 30.0
"""A replica that has not spoken for so long is gone; that it does not answer, HAProxy sees within half a second."""
_EVICTED_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """A replica in its slot."""

    replica_id: str
    address: Address
    heard_at: float
    """Seconds of the caller's clock."""
    is_draining: bool = False


class ReplicaSlots:
    """The table. Each method gives the commands that bring HAProxy in line with it; none where nothing changes."""

    def __init__(self, num_slots: int) -> None:
        self._slots: list[Slot | None] = [None] * num_slots

    @property
    def addresses(self) -> tuple[Address | None, ...]:
        """By slot, of the replicas that take new requests."""
        return tuple(None if slot is None or slot.is_draining else slot.address for slot in self._slots)

    @property
    def taken(self) -> tuple[Slot | None, ...]:
        return tuple(self._slots)

    def register(self, replica_id: str, address: Address, *, now: float) -> tuple[str, ...]:
        """A replica says that it answers at `address`: at first, and then again and again.

        Where no slot is free, the one that has been silent for longest gives way; if none has been silent, the replica
        is not taken in, and will ask again.
        """
        index = self._find(replica_id)
        if index is not None:
            slot = self._slots[index]
            assert slot is not None
            is_known = slot.address == address
            self._slots[index] = Slot(
                replica_id=replica_id, address=address, heard_at=now, is_draining=slot.is_draining
            )
            return () if is_known or slot.is_draining else enabling(index, address)
        index = self._free_index(now)
        if index is None:
            return ()
        self._slots[index] = Slot(replica_id=replica_id, address=address, heard_at=now)
        return enabling(index, address)

    def drain(self, replica_id: str, *, now: float) -> tuple[str, ...]:
        """No new request for this replica, which has some to answer yet."""
        index = self._find(replica_id)
        if index is None:
            return ()
        slot = self._slots[index]
        assert slot is not None
        self._slots[index] = Slot(replica_id=replica_id, address=slot.address, heard_at=now, is_draining=True)
        return draining(index)

    def forget(self, replica_id: str) -> tuple[str, ...]:
        """The replica has ended."""
        index = self._find(replica_id)
        if index is None:
            return ()
        self._slots[index] = None
        return freeing(index)

    def forget_silent(self, *, now: float) -> tuple[str, ...]:
        """Frees the slots of replicas that have not spoken for half a minute."""
        silent = [slot.replica_id for slot in self._slots if slot is not None and now - slot.heard_at > _STALE_SECONDS]
        return tuple(line for replica_id in silent for line in self.forget(replica_id))

    def restore(self, slots: tuple[Slot | None, ...]) -> None:
        """Takes over a table that was kept; slots beyond this one's size are dropped."""
        for index, slot in enumerate(slots[: len(self._slots)]):
            self._slots[index] = slot

    def _find(self, replica_id: str) -> int | None:
        return next(
            (index for index, slot in enumerate(self._slots) if slot is not None and slot.replica_id == replica_id),
            None,
        )

    def _free_index(self, now: float) -> int | None:
        ages = [float("inf") if slot is None else now - slot.heard_at for slot in self._slots]
        index = max(range(len(ages)), key=ages.__getitem__)
        return index if ages[index] > _EVICTED_SECONDS else None
