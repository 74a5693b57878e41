"""Drivers that are killed, and budgets that run out: what the next command does, and its exit code."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlcluster.cost import read_ledger
from tests.cli.projects import MLCLUSTER, demo_in, environment, run_here, run_process

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.filterwarnings("default")]

# It may take 54 s, and is done once its first trials have shown that there is little more to find.
SEARCH = ("--set", "tune.budget.minutes=0.9", "--set", "tune.worth.usd_per_point=0.0001")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with demo_in(tmp_path_factory.mktemp("interrupted")) as folder:
        yield folder


def newest_run(project: Path) -> Path:
    return max((project / ".mlcluster" / "runs").iterdir())


def events(journal: bytes) -> list[dict[str, Any]]:
    """The whole lines of a journal."""
    return [json.loads(line) for line in journal.split(b"\n")[:-1]]


def reports(journal: bytes) -> list[dict[str, Any]]:
    return [event for event in events(journal) if event["kind"] == "report"]


def kill_when(project: Path, words: tuple[str, ...], kind: str, count: int) -> bytes:
    """Starts a command and kills it once its journal holds that many events of `kind`; gives the journal then."""
    known = set((project / ".mlcluster" / "runs").glob("*"))
    log = project / "killed.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*MLCLUSTER, *words], cwd=project, env=environment(), stdout=output, stderr=subprocess.STDOUT
        )
    deadline = time.monotonic() + 100
    try:
        while process.poll() is None and time.monotonic() < deadline:
            new = set((project / ".mlcluster" / "runs").glob("*/study/journal.jsonl"))
            journals = [path.read_bytes() for path in new if path.parents[1] not in known]
            if any(sum(event["kind"] == kind for event in events(journal)) >= count for journal in journals):
                break
            time.sleep(0.02)
        assert process.poll() is None, log.read_text()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return (newest_run(project) / "study" / "journal.jsonl").read_bytes()


def highest_commitment_usd(ledger: Path) -> float:
    """The most that was ever spent and reserved together."""
    reserved: dict[str, float] = {}
    spent = highest = 0.0
    for entry in read_ledger(ledger):
        if entry.operation == "reserve":
            reserved[entry.account] = reserved.get(entry.account, 0.0) + entry.usd
        elif entry.operation in ("settle", "lose"):
            reserved[entry.account] = 0.0
            spent += entry.usd
        highest = max(highest, spent + sum(reserved.values()))
    return highest


def test_a_killed_search_goes_on_where_it_was(project: Path) -> None:
    words = ("tune", "--json", *SEARCH)
    before = kill_when(project, words, "report", 6)
    again = run_process(project, *words)
    assert again.code == 0, again.stderr
    run = newest_run(project)
    journal = (run / "study" / "journal.jsonl").read_bytes()

    whole = before[: before.rfind(b"\n") + 1]
    assert journal.startswith(whole)
    assert f"going on with {len({event['trial_id'] for event in events(before) if 'trial_id' in event})} trials" in (
        again.stderr
    )
    assert "an interrupted attempt has cost $" in again.stderr
    assert f"going on with run {run.name}" in again.stderr or again.json["run"] == run.name

    reported = [(report["trial_id"], report["units"]) for report in reports(journal)]
    assert len(set(reported)) == len(reported)
    assert len(reported) > len(reports(before)) >= 6

    result = json.loads((run / "study" / "result.json").read_text())
    for report in reports(before):
        values = [point["value"] for point in result["trials"][report["trial_id"]]["curve"]]
        assert values[: len(report["curve"])] or report["failure"]
        assert {point["value"] for point in report["curve"]} <= set(values)

    (ledger,) = run.glob("ledger-*.jsonl")
    lost = [entry for entry in read_ledger(ledger) if entry.operation == "lose" and entry.account == "tune"]
    assert len(lost) == 1
    assert lost[0].usd > 0
    assert again.json["lost_usd"] >= lost[0].usd
    assert again.json["spent_usd"] <= again.json["cap_usd"]
    assert highest_commitment_usd(ledger) <= again.json["cap_usd"] + 1e-12
    cost = run_here(project, "cost", "--json").json
    search = next(stage for stage in cost["stages"] if stage["stage"] == "tune")
    trials_usd = sum(trial["usd"] for trial in cost["trials"])
    assert trials_usd + cost["idle_usd"] + search["lost_usd"] == pytest.approx(search["usd"])
    assert cost["idle_usd"] >= 0
    assert 0 <= search["lost_usd"] < lost[0].usd  # the rest is with trials that had reported
    assert search["seconds"] <= 0.9 * 60 + 1e-6


def test_a_run_whose_data_was_altered_is_not_gone_on_with(project: Path) -> None:
    kept = {path: path.read_bytes() for path in (newest_run(project) / "snapshot" / "test").iterdir()}
    for path, content in kept.items():
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused = run_process(project, "verify", *SEARCH)
    for path, content in kept.items():
        path.write_bytes(content)
    assert refused.code == 2
    assert re.search(r"snapshot = \S+/snapshot/test/\S+ was altered after it was made", refused.stderr)


def test_a_finished_search_is_not_paid_for_again(project: Path) -> None:
    """After the one that was killed and went on."""
    words = ("tune", "--json", *SEARCH)
    journal = newest_run(project) / "study" / "journal.jsonl"
    before = journal.read_bytes() if journal.exists() else None
    if before is None:
        pytest.skip("the killed search has not run")
    again = run_process(project, *words)
    assert again.code == 0, again.stderr
    assert journal.read_bytes() == before
    assert "is there already" in again.stderr


def test_a_search_that_used_up_its_minutes_before_any_score_ends_with_5(project: Path) -> None:
    words = ("tune", "--json", "--set", "tune.budget.minutes=0.4")
    journal = kill_when(project, words, "start", 1)
    assert reports(journal) == []
    (ledger,) = newest_run(project).glob("ledger-*.jsonl")
    ledger.write_text("".join(an_hour_earlier(line) for line in ledger.read_text().splitlines(keepends=True)))
    again = run_process(project, *words)
    assert again.code == 5
    assert again.stdout == ""
    assert again.stderr.splitlines()[-1].startswith("mlcluster: tune.budget ($0.01, 0.4 minutes) was spent before any")
    assert highest_commitment_usd(ledger) <= 0.01 + 1e-12


def an_hour_earlier(line: str) -> str:
    """A ledger's line, as if its driver had died an hour ago."""
    entry = json.loads(line)
    return json.dumps({**entry, "at": entry["at"] - 3600}) + "\n"


def test_a_search_cut_short_by_its_minutes_ends_with_4_and_a_model(project: Path) -> None:
    # One round of boosting over 300 classes, at 64 leaves, is expected to take longer than all of the search may.
    rng = np.random.default_rng(0)
    label = rng.integers(0, 300, size=15000)
    features = {f"x{number}": label * 0.01 * number + rng.normal(size=15000) for number in range(6)}
    pq.write_table(pa.table({**features, "y": [f"c{code:03d}" for code in label]}), project / "data" / "many.parquet")
    settings = {
        "data": "{source: data/many.parquet, target: y}",
        "models": "[tree, boosting]",
        "tune.space": "{boosting: {max_leaf_nodes: 64}}",
        "tune.budget.minutes": "0.4",
        "verify": "[]",
    }
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    cut = run_process(project, "tune", "--json", *words)
    assert cut.code == 4, cut.stderr
    assert cut.json["budget_spent"]
    assert cut.json["family"] == "tree"
    assert cut.json["validation"]["log_loss"] > 0
    assert "the result can be used" in cut.stderr.splitlines()[-1]
    assert len(cut.stdout.splitlines()) == 1
