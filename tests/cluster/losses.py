"""What a cluster may lose while a study runs on it and a model is served: each loss, and what it came to."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from mlcluster.cost import read_ledger
from mlcluster.tune import read_journal
from mlcluster.tune.journal import Event
from tests.cli.projects import environment
from tests.cluster.local_cluster import LocalCluster
from tests.cluster.machines import Machine
from tests.cluster.metadata_service import INSTANCE_ACTION, metadata_service

STUDY = ("--set", "models=[boosting, mlp]", "--set", "tune.budget.usd=0.05", "--set", "serve.replicas=2..2")
LESS = {"ray start --num-cpus=1 --block": "ray start --num-cpus=2 --block"}
"""An edit of the cluster file: a worker has room for half a replica's CPU beside a slot of the study."""
CPU_USD_PER_SECOND = 0.05 / 3600
"""The price that the demo project has."""
NOTICE_SECONDS = 20
CUT_SECONDS = 60


@dataclass
class RunningStudy:
    """A search as a job, under a name; its journal is read on the head's disk."""

    cluster: LocalCluster
    name: str
    minutes: float
    process: subprocess.Popen[bytes] | None = None

    def submit(self) -> None:
        words = ["submit", "tune", *STUDY, "--set", f"tune.budget.minutes={self.minutes}", "--", "--name", self.name]
        with (self.cluster.home / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.cluster.machines.folder / "python" / "bin" / "mlcluster"), *words],
                cwd=self.cluster.home / "demo",
                env=environment(self.cluster.client),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, seconds: float) -> int:
        assert self.process is not None
        return self.process.wait(timeout=seconds)

    @property
    def folder(self) -> Path | None:
        for state in (self.cluster.head.disk / ".mlcluster" / "demo" / "runs").glob("*/run.json"):
            if json.loads(state.read_text()).get("name") == self.name:
                return state.parent
        return None

    def events(self) -> list[Event]:
        journal = None if self.folder is None else self.folder / "study" / "journal.jsonl"
        return list(read_journal(journal)) if journal is not None and journal.exists() else []

    def count(self, kind: str) -> int:
        return sum(event.kind == kind for event in self.events())

    def log(self) -> str:
        return (self.cluster.home / f"{self.name}.log").read_text(errors="replace")


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """What a loss came to, by the journal and the ledger."""

    num_trials: int
    num_reports: int
    num_lost: int
    """Segments whose worker or driver was lost."""
    noticed_seconds: float | None
    """From the loss until the study knew of it."""
    pause_seconds: float
    """The longest time without a report from the loss on."""
    lost_usd: float


def account_of(study: RunningStudy, lost_at: float) -> Account:
    """Reads the books, and holds them to what must be true whatever was lost.

    No segment is reported twice; each goes on where the trial's last report was; that checkpoint is there at the end
    where it is the trial's last or best; and what was lost is on the bill.
    """
    assert study.folder is not None
    events = study.events()
    units: dict[str, int] = {}
    for event in events:
        trial = event.data.get("trial_id")
        if event.kind == "start":
            assert event.data["start_units"] == units.get(trial, 0), event
        if event.kind == "report":
            assert event.data["units"] > units.get(trial, 0), event
            units[trial] = event.data["units"]
    kept = {path.name for path in (study.folder / "study" / "checkpoints").iterdir()}
    missing = {f"{trial}-{reached}.state" for trial, reached in units.items()} - kept
    assert not missing, missing
    losses = [event.at for event in events if event.kind in ("lost", "interrupted") and event.at >= lost_at]
    reports = [event.at for event in events if event.kind == "report" and event.at >= lost_at]
    moments = [lost_at, *reports]
    entries = [entry for path in study.folder.glob("ledger-*.jsonl") for entry in read_ledger(path)]
    lost = [entry for entry in entries if entry.operation == "lose" or entry.details.get("lost")]
    return Account(
        num_trials=len(units),
        num_reports=sum(event.kind == "report" for event in events),
        num_lost=len(losses),
        noticed_seconds=losses[0] - lost_at if losses else None,
        pause_seconds=max((later - before for before, later in itertools.pairwise(moments)), default=0.0),
        lost_usd=sum(entry.usd for entry in lost),
    )


@dataclass
class Requests:
    """Asks the endpoint five times a second, and notes what becomes of it."""

    url: str
    body: bytes
    answers: list[tuple[float, bool]] = field(default_factory=list)

    @contextlib.contextmanager
    def going_on(self) -> Iterator[Requests]:
        stop = threading.Event()
        threads = [threading.Thread(target=self._ask, args=(stop, number / 5)) for number in range(5)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)

    def _ask(self, stop: threading.Event, delay: float) -> None:
        stop.wait(delay)
        with httpx.Client(timeout=10) as client:
            while not stop.is_set():
                asked = time.time()
                with contextlib.suppress(httpx.HTTPError):
                    self.answers.append((asked, client.post(self.url, content=self.body).status_code == 200))
                    stop.wait(max(0.0, asked + 1 - time.time()))
                    continue
                self.answers.append((asked, False))
                stop.wait(max(0.0, asked + 1 - time.time()))

    @property
    def num_failed(self) -> int:
        return sum(not is_fine for _, is_fine in self.answers)

    @property
    def seconds_without(self) -> float:
        """From the first request that failed to the last."""
        failed = [asked for asked, is_fine in self.answers if not is_fine]
        return failed[-1] - failed[0] if failed else 0.0


def kill_on(machine: Machine, part: str) -> None:
    """kill -9 of the processes of a machine whose command has this part."""
    found = [pid for pid, command in machine.processes().items() if part in command]
    assert found, f"no process on {machine.name} is of {part}"
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def lose_raylet(cluster: LocalCluster) -> None:
    kill_on(cluster.workers[0], "raylet/raylet")


def lose_node(cluster: LocalCluster) -> None:
    cluster.workers[0].kill()


def lose_network(cluster: LocalCluster) -> None:
    machine = cluster.workers[0]
    machine.set_link("down")
    threading.Timer(CUT_SECONDS, machine.set_link, args=("up",)).start()


def lose_spot_node(cluster: LocalCluster) -> None:
    """The notice, as a cloud gives it and `cluster watch-spot` hears it; the machine goes when it was said to."""
    machine = cluster.workers[0]
    with metadata_service(f"{cluster.machines.subnet}.1") as service:
        going_at = time.time() + NOTICE_SECONDS
        said = datetime.fromtimestamp(going_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        service.documents[INSTANCE_ACTION] = json.dumps({"action": "terminate", "time": said})
        watch = (
            f"mlcluster cluster watch-spot --cloud aws --metadata {service.url} --address {cluster.head.address}:6379"
        )
        told = machine.run("bash", "-c", f". ~/.ray/env; {watch}")
    assert f"spot notice: EC2 will terminate it at {said}" in told.stderr
    threading.Timer(max(0.0, going_at - time.time()), machine.kill).start()


def lose_driver(cluster: LocalCluster) -> None:
    kill_on(cluster.head, "python jobs/tune.py")


def lose_head(cluster: LocalCluster) -> None:
    cluster.head.kill()


LOSSES: Mapping[str, Callable[[LocalCluster], None]] = {
    "a worker's raylet, by kill -9": lose_raylet,
    "a worker off the network for a minute": lose_network,
    "a worker, by its plug": lose_node,
    "a spot worker, with its notice": lose_spot_node,
    "the driver, by kill -9": lose_driver,
    "the head, by its plug": lose_head,
}
TAKES_THE_JOB: Sequence[str] = ("the driver, by kill -9", "the head, by its plug")
"""Losses after which the job is submitted again, under the same name."""


def repair(cluster: LocalCluster, loss: str) -> None:
    """What a person does: switches the machine on again, and after the head's loss calls `ray up` again."""
    for machine in (cluster.head, *cluster.workers):
        if not machine.is_on:
            machine.start()
    if loss == "the head, by its plug":
        cluster.wait_until(lambda: not cluster.rays(), seconds=60)
        assert cluster.up().code == 0


def details(account: Account) -> dict[str, Any]:
    """For a table."""
    noticed = "-" if account.noticed_seconds is None else f"{account.noticed_seconds:.1f}"
    return {
        "noticed, s": noticed,
        "pause, s": f"{account.pause_seconds:.1f}",
        "segments lost": account.num_lost,
        "worker-seconds lost": f"{account.lost_usd / CPU_USD_PER_SECOND:.1f}",
        "lost, $": f"{account.lost_usd:.6f}",
        "trials": account.num_trials,
    }
