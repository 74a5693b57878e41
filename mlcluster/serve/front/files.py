"""The folder of a front door: what HAProxy reads, and what a second `FrontDoor` finds of the first."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pydantic import TypeAdapter

from mlcluster.errors import ClusterError
from mlcluster.serve.front import keeper
from mlcluster.serve.front.haproxy_config import (
    ADMIN_SOCKET,
    APP_KEY,
    APP_MAP,
    CERTIFICATE,
    OTHERS_MAP,
    FrontConfig,
    haproxy_config,
)
from mlcluster.serve.front.haproxy_grpc import grpc_config
from mlcluster.serve.front.haproxy_keys import KEY_MAP, QUOTA_MAP, RATE_MAP
from mlcluster.serve.front.haproxy_others import others_config, others_map
from mlcluster.serve.front.plan import FrontAccess, FrontPlan
from mlcluster.serve.front.replica_slots import ReplicaSlots, Slot
from mlcluster.serve.private_file import replace_private

_PLAN = TypeAdapter(FrontPlan)
_SLOTS = TypeAdapter(tuple[Slot | None, ...])


class FrontFiles:
    """The files in `folder`, which is made where it is missing.

    Raises:
        ClusterError: others than its owner may look into it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise ClusterError(f"front.folder = {folder} is open to others; remove it.")
        self.folder = folder
        self.config = folder / "haproxy.cfg"
        self.admin_socket = folder / ADMIN_SOCKET
        self.app_map = folder / APP_MAP
        self.keeper = folder / "keeper.pid"
        self.log = folder / "front.log"
        self._plan = folder / "plan.json"
        self._slots = folder / "slots.json"

    def write(self, plan: FrontPlan, slots: ReplicaSlots) -> None:
        """All that an HAProxy has to know which is started now."""
        config = FrontConfig(
            bind=f'"fd@${{{keeper.PORT_VARIABLE}}}"',
            folder=str(self.folder),
            slots=slots.addresses,
            waiting_room=plan.waiting_room,
            limits=plan.limits,
            asks_for_keys=plan.access.keys is not None,
            has_certificate=plan.access.certificate is not None,
            has_others=bool(plan.others),
            replica_secret=plan.replica_secret,
        )
        self._write_access(plan.access)
        replace_private(self.app_map, f"{APP_KEY} /{plan.app or '-'}\n")
        text = haproxy_config(config)
        if plan.others:
            replace_private(self.folder / OTHERS_MAP, others_map(plan.others))
            text += others_config(config)
        if plan.grpc is not None:
            text += grpc_config(config, public=plan.grpc, slots=slots.grpc_addresses)
        replace_private(self.config, text)
        replace_private(self._plan, _PLAN.dump_json(plan).decode())
        replace_private(self._slots, _SLOTS.dump_json(slots.taken).decode())

    def kept_plan(self) -> FrontPlan | None:
        """What was last written; None where nothing was."""
        return _PLAN.validate_json(self._plan.read_bytes()) if self._plan.exists() else None

    def kept_slots(self, plan: FrontPlan) -> ReplicaSlots:
        """The table as it was last written, in the size of the plan."""
        slots = ReplicaSlots(plan.num_slots, plan.app)
        if self._slots.exists():
            slots.restore(_SLOTS.validate_json(self._slots.read_bytes()))
        return slots

    def remove(self) -> None:
        shutil.rmtree(self.folder)

    def _write_access(self, access: FrontAccess) -> None:
        if access.certificate is not None:
            replace_private(self.folder / CERTIFICATE, access.certificate)
        keys = access.keys or ()
        for file, entries in (
            (KEY_MAP, [(key.sha256, key.name) for key in keys]),
            (RATE_MAP, [(key.name, key.per_second) for key in keys if key.per_second is not None]),
            (QUOTA_MAP, [(key.name, key.per_day) for key in keys if key.per_day is not None]),
        ):
            replace_private(self.folder / file, "".join(f"{key} {value}\n" for key, value in entries))
