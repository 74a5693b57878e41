"""Drivers that are killed over and over, and nodes that go away: decisions, work and dollars are as they should be."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlcluster.cost import read_ledger
from mlcluster.errors import ClusterError
from mlcluster.tune import Study, VirtualClock, read_journal
from mlcluster.tune.events import report_of
from tests.tune.dying_driver import CAP_USD, drive_on, many_kills_plan
from tests.tune.studies import (
    UnreadableTrainer,
    WhereTrainer,
    journal_of,
    noted,
    open_study,
    synthetic_plan,
)

REPOSITORY = Path(__file__).resolve().parents[2]
NUM_KILLS = 10

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@dataclass
class Killer:
    """Starts drivers of one study, and kills each at a moment that its seed says."""

    address: str
    folder: Path
    rng: random.Random = field(default_factory=lambda: random.Random(20))
    # Imports once for all drivers: they would take longer than what they drive.
    context: Any = field(default_factory=lambda: multiprocessing.get_context("forkserver"))
    lives: list[tuple[float, set[tuple[Any, ...]], int]] = field(default_factory=list)
    """Of each: when it was killed, the segments reported until then, and how many were finished."""

    def start(self) -> Any:
        self.context.set_forkserver_preload(["mlcluster.tune.ray_study", "tests.tune.dying_driver"])
        driver = self.context.Process(target=drive_on, args=(self.address, self.folder))
        driver.start()
        return driver

    def kill_one(self) -> None:
        goal = self.num_events + 1 + self.rng.randint(0, 6)
        delay_seconds = self.rng.uniform(0.0, 0.1)
        driver = self.start()
        while self.num_events < goal:
            assert driver.is_alive(), "the driver ended by itself"
            time.sleep(0.005)
        time.sleep(delay_seconds)
        assert driver.is_alive(), "the driver ended by itself"
        driver.kill()
        driver.join(10)
        self.lives.append((time.time(), reported_segments(self.folder), len(noted(self.folder / "executed.jsonl"))))

    @property
    def num_events(self) -> int:
        journal = self.folder / "study" / "journal.jsonl"
        return journal.read_bytes().count(b"\n") if journal.exists() else 0


def reported_segments(folder: Path) -> set[tuple[Any, ...]]:
    journal = folder / "study" / "journal.jsonl"
    started: dict[str, tuple[Any, ...]] = {}
    reported = set()
    for line in journal.read_text().split("\n")[:-1]:
        event = json.loads(line)
        if event["kind"] == "start":
            started[event["trial_id"]] = (event["trial_id"], event["start_units"], event["stop_units"])
        if event["kind"] == "report":
            reported.add(started[event["trial_id"]])
    return reported


def standing_in(study: Study) -> dict[str, Any]:
    return {trial.trial_id: (trial.rung, trial.state, trial.units, trial.losses) for trial in study.trials}


@pytest.fixture
def ray_address(ray_session: None) -> str:
    import ray

    return str(ray.get_runtime_context().gcs_address)


@pytest.fixture(scope="module")
def killed_ten_times(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Killer:
    import ray

    killer = Killer(str(ray.get_runtime_context().gcs_address), tmp_path_factory.mktemp("killed"))
    for _ in range(NUM_KILLS):
        killer.kill_one()
    last = killer.start()
    last.join(120)
    assert last.exitcode == 0
    return killer


def test_a_study_whose_driver_is_killed_ten_times_decides_as_an_undisturbed_one_on_the_same_reports(
    killed_ten_times: Killer, tmp_path: Path
) -> None:
    """The undisturbed study is asked and told the same in the same order, without what was interrupted."""
    events = list(read_journal(killed_ten_times.folder / "study" / "journal.jsonl"))
    assert sum(event.kind == "begin" for event in events) == NUM_KILLS + 1
    clock = VirtualClock(events[0].at)
    study, ledger = open_study(many_kills_plan(), tmp_path, cap_usd=CAP_USD, clock=clock)
    running: dict[str, tuple[int, int]] = {}
    decided = {}
    for event in events:
        clock.now = max(clock.now, event.at)
        trial_id = event.data.get("trial_id")
        if event.kind == "start" and trial_id not in running:
            (segment,) = study.next_piece()
            assert segment.configuration == event.data["candidate"]["configuration"]
            running[segment.trial_id] = (segment.start_units, segment.stop_units)
        if event.kind == "start":
            assert running[trial_id] == (event.data["start_units"], event.data["stop_units"])
        if event.kind == "report":
            decided[trial_id] = study.report(report_of(event))
            running.pop(trial_id)
        if event.kind == "decision":
            decision = decided[trial_id]
            assert (event.data["action"], event.data["reason"]) == (decision.action, decision.reason)
    assert not running
    undisturbed = standing_in(study)
    assert len(undisturbed) == 27
    study.finish()
    ledger.close()
    again, ledger = open_study(many_kills_plan(), killed_ten_times.folder, cap_usd=CAP_USD, clock=time.time)
    assert standing_in(again) == undisturbed
    again.finish()
    ledger.close()


def test_no_segment_whose_report_was_on_disk_is_trained_again(killed_ten_times: Killer) -> None:
    executed = [tuple(key) for key in noted(killed_ten_times.folder / "executed.jsonl")]
    assert set(executed) >= reported_segments(killed_ten_times.folder)
    for _, reported, num_executed in killed_ten_times.lives:
        assert not reported & set(executed[num_executed:])


def test_each_killed_driver_is_on_the_bill_as_lost_and_the_cap_holds_at_each_line(killed_ten_times: Killer) -> None:
    rate = many_kills_plan().budget.usd_per_second
    reserved = spent = 0.0
    started_at: list[float] = []
    lost: list[float] = []
    for entry in read_ledger(killed_ten_times.folder / "ledger.jsonl"):
        match entry.operation:
            case "reserve":
                reserved += entry.usd
            case "start":
                started_at.append(entry.at)
            case "settle" | "lose":
                spent, reserved = spent + entry.usd, 0.0
                lost += [entry.usd] * (entry.operation == "lose")
        assert spent + reserved <= CAP_USD + 1e-9
    assert len(lost) == NUM_KILLS
    for (killed_at, *_), began, usd in zip(killed_ten_times.lives, started_at, lost, strict=False):
        assert usd >= 0.99 * (killed_at - began - 0.1) * rate


@dataclass
class SpareNode:
    """A second node of one CPU, beside the Ray of the tests."""

    process: psutil.Popen
    node_id: str

    def give_notice(self, seconds: float) -> None:
        """As `ray drain-node` does when a cloud says that it takes a spot machine back."""
        import ray
        from ray.core.generated.autoscaler_pb2 import DrainNodeReason

        reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline_ms = int((time.time() + seconds) * 1000)
        is_accepted, why = ray._private.worker.global_worker.gcs_client.drain_node(
            self.node_id, reason, "spot", deadline_ms
        )
        assert is_accepted, why

    def kill_raylet(self) -> None:
        """If it is still there: once nothing runs on a node that is to go, it ends by itself."""
        for child in self.process.children(recursive=True) if self.process.is_running() else []:
            with contextlib.suppress(psutil.NoSuchProcess):
                if Path(child.name()).name.startswith("raylet"):
                    child.kill()


@pytest.fixture
def spare_node(ray_address: str, tmp_path: Path) -> Iterator[SpareNode]:
    import ray

    before = {node["NodeID"] for node in ray.nodes()}
    folder = tempfile.mkdtemp(prefix="mlc-", dir=tempfile.gettempdir())
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
    command += [f"--address={ray_address}", "--num-cpus=1", "--node-ip-address=127.0.0.1", f"--temp-dir={folder}"]
    with (tmp_path / "node.log").open("w") as log:
        # Without it, Ray keeps a head on loopback to itself.
        environment = os.environ | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
        process = psutil.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        deadline = time.monotonic() + 60
        while not (new := [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in before]):
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "node.log").read_text()
            time.sleep(0.1)
        yield SpareNode(process, new[0])
    finally:
        descendants = process.children(recursive=True) if process.is_running() else []
        for each in (*descendants, process):
            if each.is_running():
                each.kill()
        psutil.wait_procs([process, *descendants], timeout=10)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_node_that_is_killed_loses_what_it_was_training_and_another_one_goes_on_with_it(
    spare_node: SpareNode, tmp_path: Path
) -> None:
    from mlcluster.tune.ray_study import run_study_on_ray

    killed: list[int] = []

    def kill_once_it_is_busy(_: Study) -> None:
        begun = noted(tmp_path / "begun.jsonl")
        if not killed and spare_node.node_id in {node for node, _ in begun}:
            killed.append(len(begun))
            spare_node.kill_raylet()

    plan = synthetic_plan(num_slots=3, max_trials=18, unit_seconds=0.3)
    study, ledger = open_study(plan, tmp_path, cap_usd=CAP_USD, clock=time.time)
    result = run_study_on_ray(study, WhereTrainer(tmp_path), folder=tmp_path / "ray", progress=kill_once_it_is_busy)
    assert ledger.spent_usd <= CAP_USD
    lost_usd = ledger.lost_shares_on("tune")
    ledger.close()
    assert killed
    assert len(result.ranked()) == 18
    (lost,) = journal_of(tmp_path, "lost")
    begun = noted(tmp_path / "begun.jsonl")
    lost_segment = [segment for node, segment in begun if node == spare_node.node_id][-1]
    assert lost_segment[0] == lost["trial_id"]
    first, second = [node for node, segment in begun if segment == lost_segment]
    assert first == spare_node.node_id != second
    (booked,) = [entry.usd for entry in read_ledger(tmp_path / "ledger.jsonl") if entry.details.get("lost")]
    assert lost_usd == booked > 0


def test_a_node_that_is_to_go_ends_what_it_trains_and_loses_nothing(spare_node: SpareNode, tmp_path: Path) -> None:
    from mlcluster.tune.ray_study import run_study_on_ray

    begun_there: list[int] = []
    """Segments on the node when the notice came, when it had passed through, and when the node was killed."""
    noticed_at = [0.0]

    def take_away(_: Study) -> None:
        now, number = time.monotonic(), [node for node, _ in noted(tmp_path / "begun.jsonl")].count(spare_node.node_id)
        if not begun_there and number:
            spare_node.give_notice(seconds=60)
            noticed_at[0] = now
            begun_there.append(number)
        elif len(begun_there) == 1 and now > noticed_at[0] + 2.0:
            begun_there.append(number)
        elif len(begun_there) == 2 and now > noticed_at[0] + 8.0:  # 18 units of 0.3 s are the longest segment
            begun_there.append(number)
            spare_node.kill_raylet()

    plan = synthetic_plan(num_slots=3, max_trials=60, unit_seconds=0.3)
    study, ledger = open_study(plan, tmp_path, cap_usd=CAP_USD, clock=time.time)
    result = run_study_on_ray(study, WhereTrainer(tmp_path), folder=tmp_path / "ray", progress=take_away)
    lost_usd = ledger.lost_shares_on("tune")
    ledger.close()
    assert len(begun_there) == 3, "the study ended before the node was killed"
    assert begun_there[2] == begun_there[1]
    assert len(result.ranked()) == 60
    assert (list(journal_of(tmp_path, "lost")), lost_usd) == ([], 0.0)


@pytest.mark.usefixtures("ray_session")
def test_a_study_whose_workers_all_end_while_they_start_says_so_and_pays_no_more(tmp_path: Path) -> None:
    from mlcluster.tune.ray_study import run_study_on_ray

    study, ledger = open_study(synthetic_plan(num_slots=2), tmp_path, cap_usd=1.0, clock=time.time)
    with pytest.raises(ClusterError, match="3 workers ended while they started, and none came up; see Ray's worker"):
        run_study_on_ray(study, UnreadableTrainer(), folder=tmp_path / "ray", progress=lambda _: None)
    assert ledger.reserved_usd == 0.0
    assert 0 < ledger.spent_usd < 0.01
    ledger.close()
