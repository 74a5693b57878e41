"""Real server processes that are killed, started again and ended: what their clients can still trace."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from mlcluster.serve import PredictionLog, find_record, read_records
from tests.registry.bundles import sample_bundle, sample_table
from tests.serve.answers import answered, eventually
from tests.serve.front_site import free_port

ROOT = Path(__file__).parents[2]
MAX_LOST_SECONDS = 1.5
"""A second, and what a busy machine adds."""


@dataclass(kw_only=True)
class Replica:
    """A server process, and what it has answered."""

    process: subprocess.Popen[bytes]
    port: int
    answers: list[tuple[str, float]] = field(default_factory=list)
    """Ids, each with its moment."""

    def ask(self, num_requests: int, *, pause_seconds: float = 0.0) -> None:
        body = {"instances": sample_table(1).to_pylist()}
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}") as client:
            for _ in range(num_requests):
                answer = client.post("/invocations", json=body)
                assert answer.status_code == 200
                self.answers.append((answer.headers["x-prediction-id"], time.monotonic()))
                time.sleep(pause_seconds)

    def end(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        self.process.wait(timeout=20)


@dataclass(kw_only=True)
class Site:
    """Replicas that share a folder of records."""

    bundle: Path
    records: Path
    replicas: list[Replica] = field(default_factory=list)

    def start(self) -> Replica:
        port = free_port()
        command = [sys.executable, "-m", "tests.serve.model_server", str(port)]
        kept = ["--bundle", str(self.bundle), "--records", str(self.records)]
        replica = Replica(process=subprocess.Popen([*command, *kept], cwd=ROOT), port=port)
        self.replicas.append(replica)
        return replica

    @staticmethod
    def wait(replica: Replica) -> None:
        assert eventually(lambda: _is_ready(replica), seconds=40)

    def suffixes(self) -> list[str]:
        return sorted(path.suffix for path in self.records.iterdir())


def _is_ready(replica: Replica) -> bool:
    assert replica.process.poll() is None
    try:
        return httpx.get(f"http://127.0.0.1:{replica.port}/ping").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    sample_bundle().write(tmp_path / "bundle")
    made = Site(bundle=tmp_path / "bundle", records=tmp_path / "records")
    yield made
    for replica in made.replicas:
        if replica.process.poll() is None:
            replica.process.kill()
            replica.process.wait()


@pytest.mark.slow
def test_a_killed_server_loses_a_second_and_the_next_one_closes_what_it_left(site) -> None:
    killed, follower = site.start(), site.start()
    other = PredictionLog(site.records)
    other.write(in_other := answered())
    site.wait(killed)
    killed.ask(100, pause_seconds=0.025)
    killed.end(signal.SIGKILL)
    killed_at = time.monotonic()
    known = {record.id for record in read_records(site.records)}
    safe = [name for name, at in killed.answers if at < killed_at - MAX_LOST_SECONDS]
    assert len(safe) > 20
    assert set(safe) <= known
    assert site.suffixes() == [".open", ".open"]  # of `other`, which goes on, and of the one that was killed

    # A frame that was being written, as far as it had come.
    left = next(path for path in site.records.iterdir() if f"-{killed.process.pid}-" in path.name)
    with left.open("ab") as file:
        file.write(b"\x40\x01\x00\x00torn")
    site.wait(follower)
    follower.ask(1)
    assert eventually(lambda: not left.exists())
    assert site.suffixes() == [".open", ".open", ".parquet"]
    assert {record.id for record in read_records(site.records)} >= known
    assert find_record(site.records, safe[-1]).id == safe[-1]

    follower.end(signal.SIGTERM)
    other.close()
    assert site.suffixes() == [".parquet", ".parquet", ".parquet"]
    expected = {*known, in_other.id, follower.answers[0][0]}
    assert {record.id for record in read_records(site.records)} == expected
