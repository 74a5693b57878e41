"""What the stages of one run share, and where they run."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from mlcluster.cli.bundle_keys import BundleKeys
from mlcluster.cli.leasing import Lease, Machine
from mlcluster.cli.metering import StageMeter
from mlcluster.cli.progress import Progress
from mlcluster.cli.ray_local import LocalRay
from mlcluster.cli.workspace import RunFolder, Workspace
from mlcluster.cost import Ledger, NoNodeLog
from mlcluster.data import SourceCache
from mlcluster.spec import ProjectSpec


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """All that the stages of one run share."""

    spec: ProjectSpec
    project_folder: Path
    workspace: Workspace
    run: RunFolder
    lease: Lease
    ledger: Ledger
    meter: StageMeter
    progress: Progress
    sources: SourceCache
    keys: BundleKeys
    seed: int
    nodes: NoNodeLog = field(default_factory=NoNodeLog)
    """What is seen of the cluster's nodes, and told of the work on them."""

    def close(self) -> None:
        """Lets go of the ledger."""
        self.ledger.close()


def connect_ray(workspace: Workspace, machine: Machine) -> None:
    """Connects to the cluster of this job, or to the project's local Ray."""
    LocalRay(workspace.ray).connect(num_cpus=machine.num_cpus, num_gpus=machine.num_gpus)


def code_version(folder: Path) -> str:
    """The commit that the project file lies in, marked where it has changes; else the package's version."""
    from mlcluster import __version__

    git = ["git", "-C", str(folder)]
    try:
        commit = subprocess.run(  # noqa: S603 - our own words
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()
        status = subprocess.run(  # noqa: S603
            [*git, "status", "--porcelain"], capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return f"mlcluster {__version__}"
    return commit + ("-dirty" if status else "")
