"""What tests of several rooms share: the data beside the repository, and one Ray for the whole run."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# How long an example takes says how busy the machine is; pytest-timeout ends what hangs.
hypothesis.settings.register_profile("any-machine", deadline=None)
hypothesis.settings.load_profile("any-machine")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data sets; tests that need it are skipped where it is not there."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"the public data sets are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def shared_benchmarks() -> Path:
    """The folder of public search benchmarks; tests that need it are skipped where it is not there."""
    folder = SHARED / "benchmarks"
    if not folder.is_dir():
        pytest.skip(f"the public search benchmarks are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def shared_kuberay() -> Path:
    """The folder of KubeRay's resource definitions; tests that need it are skipped where it is not there."""
    folder = SHARED / "kuberay"
    if not folder.is_dir():
        pytest.skip(f"KubeRay's resource definitions are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """The command of a real browser; tests that look at pages are skipped where there is none."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium here; install it, as with: apt-get install chromium")
    # Ubuntu has a command of that name which only says that a snap should be installed.
    if subprocess.run([found, "--version"], capture_output=True, check=False, timeout=30).returncode != 0:
        pytest.skip(f"{found} does not start")
    return found


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One embedded Ray of two CPUs, on loopback, with a folder of its own; for tests that are marked slow."""
    import ray

    # Not pytest's own folder: the path of a Unix socket may have 107 characters, and Ray uses 60 of them.
    folder = tempfile.mkdtemp(prefix="mlc-", dir=tempfile.gettempdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.delenv("RAY_ADDRESS", raising=False)
        # Without it Ray takes 127.0.0.1 for "this machine's address" and goes looking for another one.
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            _temp_dir=folder,
            _node_ip_address="127.0.0.1",
        )
        try:
            yield
        finally:
            ray.shutdown()
            shutil.rmtree(folder, ignore_errors=True)
