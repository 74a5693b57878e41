"""`mlcluster report`, on a study that is done, one that is not, and none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlcluster import Project
from mlcluster.cli.workspace import RunFolder
from mlcluster.tune import Measured, Selection, StudyResult
from tests.cli.projects import run_here


@pytest.fixture
def run(project: Path, result: StudyResult) -> RunFolder:
    (path,) = (project / ".mlcluster" / "runs").iterdir()
    return RunFolder(path=path)


def test_the_page_is_written_to_the_runs_folder_and_summed_up(
    project: Path, result: StudyResult, run: RunFolder
) -> None:
    written = run_here(project, "report")
    assert (written.code, written.stderr) == (0, f"wrote {run.report}\n")
    page = run.report.read_text(encoding="utf-8")
    best = result.ranked()[0]
    assert f"Trial <b>{best.trial_id}</b> wins" in page
    assert written.stdout.splitlines()[0] == f"winner    {best.trial_id} {best.family}, log_loss {best.value:.4f}"
    assert "of $1.00" in written.stdout, "the cap is the ledger's, not that of the project file as it is now"
    assert run.report.stat().st_mode & 0o077 == 0


def test_json_holds_the_numbers_of_the_page(project: Path, result: StudyResult, run: RunFolder) -> None:
    written = run_here(project, "report", "--json", "--out", "my report.html")
    found = written.json
    assert (project / "my report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert not run.report.exists()
    assert (found["report"], found["run"]) == ("my report.html", run.run_id)
    assert (found["usd"], found["cap_usd"], found["metric"]) == (result.usd, 1.0, "log_loss")
    assert [one["trial_id"] for one in found["trials"]] == list(result.trials)
    assert sum(one["usd"] for one in found["trials"]) + found["idle_usd"] == pytest.approx(found["usd"])
    assert found["rungs"][0]["num_stood"] == 30
    assert 0 <= found["forecast"]["under_worst_case_share"] <= 1


def test_the_trial_that_was_chosen_wins_and_latency_is_compared_where_it_was_measured(
    project: Path, result: StudyResult, run: RunFolder
) -> None:
    first, second = (one.trial_id for one in result.ranked()[:2])
    measured = {first: Measured(p99_ms=40.0, model_mb=1.0), second: Measured(p99_ms=2.0, model_mb=1.0)}
    run.update(selection=Selection(trial_id=second, reason="the first is too slow", measured=measured).to_json())
    found = run_here(project, "report", "--json").json
    assert (found["winner"]["trial_id"], found["reason"]) == (second, "the first is too slow")
    assert found["pareto"]["third_axis"] == "p99_ms"
    assert "too slow" in run.report.read_text(encoding="utf-8")
    assert f"ships     {second}: the first is too slow" in run_here(project, "tune", "--explain").stdout
    assert run_here(project, "tune", "--explain", "--json").json["selection"]["trial_id"] == second


def test_what_crashes_have_cost_is_shown_as_lost(project: Path, result: StudyResult, run: RunFolder) -> None:
    lines = run.ledger_path().read_text().splitlines()
    lost = {"op": "lose", "account": "tune", "usd": 0.001, "at": 1.0, "seconds": 10.0}
    run.ledger_path().write_text("\n".join([lines[0], json.dumps(lost), *lines[1:]]) + "\n")
    later = {"op": "open", "account": "", "usd": 0.0, "at": 2.0, "cap_usd": 7.0}
    (run.path / "ledger-2.jsonl").write_text(json.dumps(later) + "\n")
    found = run_here(project, "report", "--json").json
    assert (found["lost_usd"], found["cap_usd"]) == (0.001, 1.0)


def test_what_workers_have_lost_stays_their_trials_and_is_said(
    project: Path, result: StudyResult, run: RunFolder
) -> None:
    entries = [json.loads(line) for line in run.ledger_path().read_text().splitlines()]
    shares = [entry for entry in entries if entry["op"] == "share"]
    shares[0]["lost"] = True
    run.ledger_path().write_text("\n".join(json.dumps(entry) for entry in entries) + "\n")
    found, cost = run_here(project, "report", "--json").json, run_here(project, "cost", "--json").json
    assert found["lost_with_workers_usd"] == cost["lost_with_workers_usd"] == shares[0]["usd"] > 0
    assert "were lost with workers" in run.report.read_text(encoding="utf-8")
    assert "lost with workers" in run_here(project, "cost").stdout
    for one in (found, cost):
        assert one["lost_usd"] == 0
        assert sum(trial["usd"] for trial in one["trials"]) + one["idle_usd"] == pytest.approx(result.usd)


def test_without_a_study_it_says_what_to_run(project: Path) -> None:
    refused = run_here(project, "report")
    assert refused.code == 2
    assert refused.complaint == "this project has no run yet; start one with `mlcluster run` or `mlcluster tune`."
    (project / ".mlcluster" / "runs" / "0001-0123456789ab").mkdir(parents=True)
    assert run_here(project, "report").complaint == (
        "run 0001-0123456789ab has no study yet; make one with `mlcluster tune`."
    )


def test_a_study_that_has_not_ended_has_a_report_of_what_there_is(
    project: Path, result: StudyResult, run: RunFolder
) -> None:
    (run.path / "run.json").unlink()
    (run.study / "result.json").unlink()
    journal = run.study / "journal.jsonl"
    journal.write_text("\n".join(journal.read_text().splitlines()[:40]) + "\n")
    written = run_here(project, "report")
    assert written.code == 0
    assert "This study has not ended yet" in run.report.read_text(encoding="utf-8")


def test_a_place_that_cannot_be_written_to_is_refused(project: Path, result: StudyResult) -> None:
    refused = run_here(project, "report", "--out", "nowhere/report.html")
    assert refused.code == 2
    assert refused.complaint == (
        "--out = nowhere/report.html cannot be written (No such file or directory); "
        "give a file in a folder that exists."
    )


def test_python_gives_the_report_and_writes_its_page(project: Path, result: StudyResult, run: RunFolder) -> None:
    found = Project.load(project / "mlcluster.yaml").report()
    assert run.report.read_text(encoding="utf-8").startswith("<!doctype html>")
    told = run_here(project, "report", "--json").json
    assert (found.story.usd, found.cap_usd) == (told["usd"], told["cap_usd"])
    assert found.winner is not None
    assert found.winner.trial_id == told["winner"]["trial_id"] == result.ranked()[0].trial_id
