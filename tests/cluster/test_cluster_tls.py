"""TLS between the machines, switched on as the docs say: it works, and the token alone opens nothing any more."""

from __future__ import annotations

import subprocess

import pytest

from tests.cluster.conftest import new_machines
from tests.cluster.local_cluster import LocalCluster, last_lines
from tests.cluster.machines import Machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.filterwarnings("default")]

SETTING = {"# ~/.ray/tls: ~/.ray/tls": "~/.ray/tls: ~/.ray/tls"}
SUM = """
import ray
ray.init("auto", logging_level="ERROR")
size_of = ray.remote(lambda data: len(data))
print("sum", sum(ray.get([size_of.remote(b"x" * size) for size in (1, 10, 2_000_000)])))
"""


def certificate_of(machine: Machine, port: int) -> str:
    """What a TLS client without a certificate of its own is told at a port."""
    words = ["openssl", "s_client", "-connect", f"{machine.address}:{port}", "-brief"]
    done = subprocess.run(words, input="", capture_output=True, text=True, check=False, timeout=30)
    return done.stdout + done.stderr


def test_one_setting_encrypts_the_calls_between_machines_and_keeps_out_who_has_no_certificate() -> None:
    with new_machines(3) as machines:
        cluster = LocalCluster(machines, edits=SETTING, num_workers=1)
        (worker,), stranger = cluster.workers, cluster.stranger
        cluster.write_file()
        assert cluster.call("mlcluster", "key", "token").code == 0
        addresses = (cluster.head.address, worker.address)
        assert cluster.call("mlcluster", "key", "tls", "~/.ray/tls", *addresses).code == 0
        up = cluster.up()
        assert up.code == 0, last_lines(up)
        with cluster.tunnels():
            cluster.wait_until(lambda: cluster.num_alive() == 2, seconds=60)
        done = cluster.head.run("bash", "-c", f". ~/.ray/env; python -c '{SUM}'", check=False)
        # Ray's autoscaler may have a word of its own after it.
        assert "sum 2000011" in done.stdout.splitlines(), done.stderr
        assert "mlcluster node" in certificate_of(cluster.head, 6379)
        (stranger.disk / ".ray").mkdir(mode=0o700)
        (stranger.disk / ".ray" / "auth_token").write_text(cluster.token)
        # It would try for minutes; whoever is let in has joined in five seconds.
        join = f"RAY_AUTH_MODE=token ray start --address={cluster.head.address}:6379 --disable-usage-stats"
        assert stranger.run("timeout", "20", "bash", "-c", join, check=False).returncode != 0
        with cluster.tunnels():
            assert cluster.num_alive() == 2
