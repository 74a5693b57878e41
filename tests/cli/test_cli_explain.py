"""`tune --explain`, on a study that is done, one that is not, and none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlcluster import Project
from mlcluster.errors import SpecError
from mlcluster.tune import StudyResult
from tests.cli.projects import run_here


def test_the_story_of_the_study_has_the_winner_and_a_line_a_trial(project: Path, result: StudyResult) -> None:
    told = run_here(project, "tune", "--explain")
    assert (told.code, told.stderr) == (0, "")
    best = result.ranked()[0]
    lines = told.stdout.splitlines()
    assert lines[0].startswith("study synthetic, seed 0: 30 trials (")
    assert lines[1].startswith(f"best      {best.trial_id} {best.family}, log_loss {best.value:.4f} with {best.units}")
    ranks = [line.split()[1] for line in lines if line[:4].strip().isdigit()]
    assert ranks == [trial.trial_id for trial in result.ranked()]


def test_the_story_of_a_trial_goes_from_its_proposal_to_its_rank(project: Path, result: StudyResult) -> None:
    best = result.ranked()[0]
    told = run_here(project, "tune", "--explain", best.trial_id)
    assert (told.code, told.stderr) == (0, "")
    lines = told.stdout.splitlines()
    assert lines[0] == f"{best.trial_id}  {best.family}, rank 1 of 30 with log_loss {best.value:.4f}"
    assert "to rung 0" in lines[1]
    assert [line for line in lines if line.startswith("segment 1  rung 0, 0 to ")]
    assert "at worst" in told.stdout
    assert "on a cpu worker" in told.stdout
    assert "then      paused: rank " in told.stdout
    assert "then      complete: at the top rung" in told.stdout
    assert lines[-1].startswith("at the end  complete at rung 3: rank 1 of 30 with log_loss")
    assert "the best of the study" in lines[-1]


def test_json_holds_the_same_as_data(project: Path, result: StudyResult) -> None:
    study = run_here(project, "tune", "--explain", "--json").json
    assert [trial["trial_id"] for trial in study["trials"]] == list(result.trials)
    assert study["usd"] == result.usd
    trial = run_here(project, "tune", "--json", "--explain", "t0003").json
    assert trial["usd"] == pytest.approx(result.trials["t0003"].usd)
    assert (trial["study_id"], trial["metric"]) == ("synthetic", "log_loss")
    assert {key: trial[key] for key in study["trials"][3]} == study["trials"][3]
    assert trial["segments"][0]["decision"]["reason"]


@pytest.mark.parametrize(("asked", "near"), [("t00003", "t0003"), ("t3", "t0003"), ("T0003", "t0003")])
def test_an_unknown_trial_names_the_near_ones(project: Path, result: StudyResult, asked: str, near: str) -> None:
    refused = run_here(project, "tune", "--explain", asked)
    assert refused.code == 2
    assert refused.complaint.startswith(
        f"--explain = {asked!r} is no trial of study synthetic, for it has t0000 to t0029; did you mean "
    )
    assert near in refused.complaint


def test_what_is_near_no_trial_is_told_where_they_are_listed(project: Path, result: StudyResult) -> None:
    assert run_here(project, "tune", "--explain", "winner").complaint.endswith(
        "; see them all with `mlcluster tune --explain`."
    )


def test_without_a_study_it_says_what_to_run_and_spends_nothing(project: Path) -> None:
    before = sorted(path.name for path in project.iterdir())
    refused = run_here(project, "tune", "--explain")
    assert refused.code == 2
    assert refused.complaint == ("this project has no run yet; start one with `mlcluster run` or `mlcluster tune`.")
    assert sorted(path.name for path in project.iterdir()) == before
    (project / ".mlcluster" / "runs" / "0001-0123456789ab").mkdir(parents=True)
    assert run_here(project, "tune", "--explain", "t0000").complaint == (
        "run 0001-0123456789ab has no study yet; make one with `mlcluster tune`."
    )


def test_a_study_that_has_not_ended_is_told_as_far_as_it_has_come(project: Path, result: StudyResult) -> None:
    (run,) = (project / ".mlcluster" / "runs").iterdir()
    (run / "run.json").write_text("{}")
    (run / "study" / "result.json").unlink()
    journal = run / "study" / "journal.jsonl"
    lines = journal.read_text().splitlines()[:40]
    journal.write_text("\n".join([*lines, json.dumps({"kind": "sta"})[:9]]))
    told = run_here(project, "tune", "--explain")
    assert told.code == 0
    assert "not ended yet" in told.stdout.splitlines()[0]
    trial = run_here(project, "tune", "--explain", "t0000", "--json").json
    assert trial["segments"][0]["end"] == "reported"


def test_odd_configurations_and_errors_stay_on_their_lines(project: Path) -> None:
    run = project / ".mlcluster" / "runs" / "0001-0123456789ab"
    (run / "study").mkdir(parents=True)
    candidate = {"family": "own", "configuration": {"text": "a\nb\x1b[31m", "nan": float("nan")}, "origin": "mine"}
    start = {"trial_id": "t0000", "candidate": candidate, "rung": 0, "start_units": 0, "stop_units": 1, "reason": "r"}
    events = [
        {"kind": "begin", "at": 0.0, "study_id": "s", "seed": 0},
        {"kind": "start", "at": 0.0, **start, "limit_seconds": 1.0, "expected_seconds": 1.0},
        {"kind": "failed", "at": 1.0, "trial_id": "t0000", "error": "ValueError: one\ntwo"},
    ]
    (run / "study" / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    told = run_here(project, "tune", "--explain", "t0000").stdout
    assert "text = 'a\\nb\\x1b[31m'" in told
    assert "ValueError: one two" in told
    assert "\x1b" not in told
    trial = run_here(project, "tune", "--explain", "t0000", "--json")
    assert trial.json["configuration"]["nan"] is None
    assert "no trial has given a score" in run_here(project, "tune", "--explain").stdout


def test_python_gives_the_same_stories_and_the_same_refusal(project: Path, result: StudyResult) -> None:
    found = Project.load(project / "mlcluster.yaml")
    assert [trial.trial_id for trial in found.explain().ranked()] == [trial.trial_id for trial in result.ranked()]
    told = run_here(project, "tune", "--explain", "t0003", "--json").json
    trial = found.explain_trial("t0003")
    assert (trial.trial_id, trial.usd, trial.value) == (told["trial_id"], told["usd"], told["value"])
    with pytest.raises(SpecError, match="did you mean t0003"):
        found.explain_trial("t00003")
