"""What a project has deployed on its cluster, kept on the head's disk, and serving it again after the head was lost.

Beside the model itself: whatever the deployment took from files beside the project file, for a job's copy of them does
not outlive the job. So the record holds the certificate with its key and the hashes of API keys; it is 0600.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from mlcluster.cli.workspace import Workspace, write_whole
from mlcluster.errors import ClusterError, MlclusterError
from mlcluster.registry import Bundle
from mlcluster.serve.kept_bundles import KeptBundles
from mlcluster.serve.plan import Endpoint, OtherBundle, ServePlan

NAME = "served.json"
OTHERS = "served-beside"
"""The folder of bundles that were served beside a project's own."""
TRY_SECONDS = 120.0
"""One try: an autoscaler may have to start the first worker for the replicas meanwhile."""


class ServedRecord(BaseModel):
    """`plan` is without bundles: its own lies in the folder `bundle`, and those beside it in those of `others`."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")

    plan: ServePlan
    bundle: Path
    others: tuple[tuple[Path, tuple[str, ...]], ...] = ()
    """Folder, and aliases."""
    run: str

    def whole_plan(self) -> ServePlan:
        """With all bundles, checked.

        Raises:
            BundleError: one is damaged, or signed by nobody who was trusted.
        """
        trusted = self.plan.trusted
        others = tuple(
            OtherBundle.of(Bundle.read(folder, trusted=trusted), aliases=aliases) for folder, aliases in self.others
        )
        files = Bundle.read(self.bundle, trusted=trusted).files()
        return replace(self.plan, bundle_files=files, neighbours=replace(self.plan.neighbours, others=others))


def keep_served(workspace: Workspace, plan: ServePlan, *, bundle: Path, run: str) -> None:
    """From now on `plan` is what comes back."""
    bundles = KeptBundles((workspace.root / OTHERS).resolve())
    others = [(bundles.keep(other.files), other.model.served.aliases) for other in plan.neighbours.others]
    bundles.drop_all_but({folder.name for folder, _ in others})
    bare = replace(plan, bundle_files={}, neighbours=replace(plan.neighbours, others=()))
    record = ServedRecord(plan=bare, bundle=bundle.resolve(), others=tuple(others), run=run)
    write_whole(workspace.root / NAME, record.model_dump_json(indent=1))


def forget_served(workspace: Workspace) -> None:
    """Nothing comes back any more."""
    (workspace.root / NAME).unlink(missing_ok=True)


def read_served(home: Path) -> Iterator[ServedRecord]:
    """Of all projects whose workspaces are in `home`.

    Raises:
        ClusterError: a record is damaged.
    """
    for path in sorted(home.glob(f"*/{NAME}")):
        try:
            yield ServedRecord.model_validate_json(path.read_text())
        except ValidationError as error:
            raise ClusterError(
                f"{path} is no record of a deployment; remove it, and deploy again with `mlcluster submit deploy`."
            ) from error


def restore(record: ServedRecord, *, deadline: float, say: Callable[[str], None]) -> Endpoint:
    """Serves it again on the connected Ray, trying until `deadline` (monotonic): workers join later than a head.

    Raises:
        ClusterError: it could not be served by then.
        BundleError: the model is damaged, or signed by nobody who was trusted.
    """
    from mlcluster.serve.ray_deploy import deploy

    plan = record.whole_plan()
    while True:
        left = deadline - time.monotonic()
        try:
            return deploy(plan, timeout_seconds=max(1.0, min(TRY_SECONDS, left)))
        except ClusterError as error:
            if time.monotonic() >= deadline:
                raise
            say(f"{plan.name}: {error} Once more.")
            time.sleep(1.0)


def restored(records: Iterable[ServedRecord], *, wait_seconds: float, say: Callable[[str], None]) -> int:
    """Serves each of them again, whatever becomes of the others; how many could not be."""
    failed = 0
    for record in records:
        started = time.monotonic()
        try:
            endpoint = restore(record, deadline=started + wait_seconds, say=say)
        except MlclusterError as error:
            failed += 1
            say(f"{record.plan.name}: {error}")
            continue
        took = time.monotonic() - started
        say(f"{endpoint.model} version {endpoint.version} answers at {endpoint.url} again, after {took:.1f} s")
    return failed
