"""One cluster for all tests of this folder that need a real one: machines, `ray up`, a project at the client."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.local_cluster import RUN, SETTINGS, Job, LocalCluster, last_lines
from tests.cluster.machines import Machines, running_machines, why_not

SETTLED_SECONDS = 60


@contextlib.contextmanager
def new_machines(count: int) -> Iterator[Machines]:
    """Machines for tests, which are skipped where they are not to be had; nothing of them is left at the end."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    # Not pytest's own folder: the path of a Unix socket may have 107 characters, and SSH's control path is long.
    folder = Path(tempfile.mkdtemp(prefix="mlc-"))
    try:
        with running_machines(folder, count=count) as found:
            yield found
        assert found.left_over() == []
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def machines() -> Iterator[Machines]:
    """Four machines, of which three become a cluster."""
    with new_machines(4) as found:
        yield found


@pytest.fixture(scope="session")
def cluster(machines: Machines) -> Iterator[LocalCluster]:
    """The three as one cluster, brought up as the docs say, with a project in the client's home; then taken down."""
    found = LocalCluster(machines)
    found.write_file()
    assert found.call("mlcluster", "key", "token").code == 0
    assert found.call("mlcluster", "init", "demo").code == 0
    up = found.up()
    assert up.code == 0, last_lines(up)
    with found.tunnels():
        yield found
    down = found.down()
    assert down.code == 0, last_lines(down)
    found.wait_until(lambda: not found.rays(), seconds=SETTLED_SECONDS)


@pytest.fixture(scope="session")
def pipeline(cluster: LocalCluster) -> Job:
    """The whole line by plain `ray job submit`, right after `ray up`."""
    words = ("--working-dir", ".", "--", "python", "jobs/pipeline.py", "--config", "mlcluster.yaml", *SETTINGS, *RUN)
    submitted = cluster.call("ray", "job", "submit", *words, folder=cluster.home / "demo", RAY_AUTH_MODE="token")
    return cluster.ended(submitted)
