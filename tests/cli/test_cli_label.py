"""`data label` as a person uses it: a queue, answers, status, audit, functions; and what a run then learns from."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlcluster.cli.bundle_keys import BundleKeys
from mlcluster.cli.data_stage import run_data_stage
from mlcluster.cli.leasing import Lease
from mlcluster.cli.metering import StageMeter
from mlcluster.cli.progress import Progress
from mlcluster.cli.project import Project
from mlcluster.cli.run_context import RunContext
from mlcluster.cli.workspace import RunFolder, Workspace
from mlcluster.cost import Ledger
from mlcluster.data import LocalEngine, SourceCache, prepare
from tests.cli.projects import Outcome, make_project, run_here

PROJECT = """
    project: demo
    data:
      source: data/table.parquet
      target: answer
      key: person
      labels: {budget: 60, functions: rules.py}
"""
RULES = """
import numpy as np
from mlcluster.data.labels import ABSTAIN, label_function

@label_function
def large(columns):
    return np.where(columns["size"] > 0.5, "yes", np.where(columns["size"] < -0.5, "no", ABSTAIN))

@label_function
def red(columns):
    return np.where(columns["colour"] == "red", "yes", ABSTAIN)

@label_function
def small_and_blue(columns):
    return np.where((columns["colour"] == "blue") & (columns["size"] < 0.3), "no", ABSTAIN)
"""
NUM_ROWS, NUM_LABELLED = 600, 60


def truth() -> Any:
    rng = np.random.default_rng(0)
    size = rng.normal(size=NUM_ROWS)
    colour = rng.choice(["red", "green", "blue"], size=NUM_ROWS)
    answer = np.where(size + (colour == "red") + rng.normal(scale=0.3, size=NUM_ROWS) > 0.3, "yes", "no")
    return size, colour, answer


def half_labelled() -> pa.Table:
    """600 people, of whom the first 60 have an answer."""
    size, colour, answer = truth()
    is_missing = np.arange(NUM_ROWS) >= NUM_LABELLED
    return pa.table(
        {
            "person": [f"p{row:03d}" for row in range(NUM_ROWS)],
            "size": size,
            "colour": colour,
            "answer": pa.array(answer, mask=is_missing),
        }
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = make_project(tmp_path / "demo", PROJECT, half_labelled())
    (folder / "rules.py").write_text(RULES)
    return folder


def answer_all(file: Path, say: Callable[[int], str]) -> None:
    """Fills the label column in."""
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows({**row, "label": say(int(row["row"]))} for row in rows)


def label(folder: Path, *words: str) -> Outcome:
    return run_here(folder, "data", "label", *words)


def ask_and_answer(folder: Path, count: int, *, annotator: str = "ann") -> Any:
    """One round with an annotator who is always right."""
    assert label(folder, "--next", str(count)).code == 0
    answer_all(folder / "queue.csv", lambda row: str(truth()[2][row]))
    added = label(folder, "--add", "queue.csv", "--annotator", annotator, "--json")
    assert added.code == 0, added.stderr
    return added.json


def test_a_queue_shows_open_rows_with_their_features_and_why_they_are_asked(project: Path) -> None:
    told = label(project, "--next", "25", "--json").json
    with (project / "queue.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert told["asked"] == len(rows) == len({row["row"] for row in rows}) == 25
    assert told["by_model"]
    table = half_labelled().to_pylist()
    for row in rows:
        assert int(row["row"]) >= NUM_LABELLED
        assert (row["person"], row["colour"]) == tuple(table[int(row["row"])][name] for name in ("person", "colour"))
        assert row["label"] == ""
        assert row["reason"].startswith("margin 0.")


def test_the_same_seed_asks_about_the_same_rows_and_another_about_others(project: Path) -> None:
    rows = [
        label(project, "--next", "20", "--seed", seed, "--out", f"{number}.csv", "--json").json["rows"]
        for number, seed in enumerate(("1", "1", "2"))
    ]
    assert rows[0] == rows[1] != rows[2]


def test_answers_are_taken_in_and_what_is_left_of_the_budget_is_said(project: Path) -> None:
    added = ask_and_answer(project, 40)
    assert (added["added"], added["answers"], added["budget"]) == (40, 40, {"given": 60, "left": 20})
    status = label(project, "--status", "--json").json
    assert (status["labelled_by_source"], status["labelled_by_answers"], status["unlabelled"]) == (60, 40, 500)
    assert status["agreement"] is None
    assert "40; 20 of a budget of 60 answers left" in label(project).stdout


def test_the_budget_is_not_exceeded(project: Path) -> None:
    ask_and_answer(project, 40)
    refused = label(project, "--next", "21")
    assert refused.code == 2
    assert refused.complaint == (
        "--next = 21 is more than the 20 answers that data.labels.budget = 60 leaves; ask for 20, or raise the budget."
    )
    ask_and_answer(project, 20)
    assert "leaves; raise the budget." in label(project, "--next", "1").complaint


def test_rows_that_were_answered_are_not_asked_about_again(project: Path) -> None:
    first = label(project, "--next", "30", "--json").json["rows"]
    answer_all(project / "queue.csv", lambda row: str(truth()[2][row]))
    assert label(project, "--add", "queue.csv").code == 0
    assert not set(first) & set(label(project, "--next", "30", "--json").json["rows"])


def test_answers_that_were_not_taken_in_are_not_overwritten(project: Path) -> None:
    label(project, "--next", "5")
    answer_all(project / "queue.csv", lambda _: "yes")
    before = (project / "queue.csv").read_bytes()
    refused = label(project, "--next", "5")
    assert refused.code == 2
    assert "queue.csv holds 5 answers that were not taken in yet" in refused.complaint
    assert (project / "queue.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ("row,label\n70,maybe\n", "line 2: label 'maybe' is no class; use one of no, yes"),
        ("row,label\n70,yes\n6000,no\n", "line 3: row '6000' is none of 0 to 599"),
        ("person,label\np999,no\n", "line 2: 'p999' is no person"),
        ("row,label\n70,yes\n70,no\n", "row 70: ann said 'yes', and now 'no'"),
        ("label\nyes\n", "lacks a column; it needs row, or person, and label"),
        ("row,label,row_id\n70,yes,00000000deadbeef\n", "row 70 holds other values than when it was asked about"),
    ],
)
def test_an_answer_that_does_not_fit_is_told_and_nothing_is_added(project: Path, lines: str, complaint: str) -> None:
    ask_and_answer(project, 10)
    store = (project / "labels.parquet").read_bytes()
    (project / "more.csv").write_text(lines)
    refused = label(project, "--add", "more.csv", "--annotator", "ann")
    assert refused.code == 2
    assert complaint in refused.complaint
    assert (project / "labels.parquet").read_bytes() == store


def test_an_annotator_may_correct_an_answer_when_that_is_meant(project: Path) -> None:
    (project / "a.csv").write_text("person,label\np070,yes\np071,\n")
    (project / "b.csv").write_text("person,label\np070,no\n")
    first = label(project, "--add", "a.csv", "--annotator", "ann", "--json").json
    assert (first["added"], first["unanswered"]) == (1, 1)
    again = label(project, "--add", "a.csv", "--annotator", "ann", "--json").json
    assert (again["added"], again["repeated"], again["answers"]) == (0, 1, 1)
    refused = label(project, "--add", "b.csv", "--annotator", "ann")
    assert "correct them, or give --replace" in refused.complaint
    assert label(project, "--add", "b.csv", "--annotator", "ann", "--replace", "--json").json["replaced"] == 1
    assert label(project, "--json").json["by_label"] == {"no": 1}


def test_people_who_add_at_the_same_time_lose_nothing(project: Path) -> None:
    for number in range(4):
        lines = "".join(f"{60 + 10 * number + row},yes\n" for row in range(10))
        (project / f"{number}.csv").write_text(f"row,label\n{lines}")

    def add(number: int) -> int:
        with Project.load(project / "mlcluster.yaml").labelling() as labelling:
            return int(labelling.add(project / f"{number}.csv", annotator=f"a{number}")["added"])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(add, range(4))) == [10] * 4
    assert label(project, "--json").json["answers"] == 40


def test_annotators_who_share_rows_are_told_apart(project: Path) -> None:
    label(project, "--next", "20")
    queue = (project / "queue.csv").read_text()
    for name, share in (("ann", 0.0), ("bob", 0.0), ("lot", 0.5)):
        (project / "queue.csv").write_text(queue)
        rng = np.random.default_rng(1)
        answer_all(
            project / "queue.csv",
            lambda row, share=share, rng=rng: (
                {"yes": "no", "no": "yes"}[truth()[2][row]] if rng.random() < share else str(truth()[2][row])
            ),
        )
        assert label(project, "--add", "queue.csv", "--annotator", name).code == 0
    agreement = label(project, "--json").json["agreement"]
    kappas = {tuple(pair["annotators"]): pair["kappa"] for pair in agreement["cohen_kappa"]}
    assert kappas["ann", "bob"] == 1.0
    assert agreement["krippendorff_alpha"] < 0.9
    assert agreement["estimated_accuracy"]["lot"] < 0.75 < agreement["estimated_accuracy"]["ann"]
    assert "Cohen's kappa 1.000  ann and bob" in label(project).stdout


def test_functions_are_shown_with_coverage_and_accuracy(project: Path) -> None:
    told = label(project, "--functions", "--json").json
    size, colour, answer = truth()
    large = told["functions"][0]
    assert large["name"] == "large"
    assert large["coverage_share"] == pytest.approx((np.abs(size) > 0.5).mean())
    assert large["accuracy"] > told["functions"][1]["accuracy"]  # 0.96 and 0.71 in truth
    is_red = (colour == "red")[:NUM_LABELLED]
    known = (answer[:NUM_LABELLED][is_red] == "yes").mean()
    assert told["functions"][1]["known_accuracy"] == pytest.approx(known)
    assert "none is filled in; data.labels.fill_above: 0.9 would fill in up to" in label(project, "--functions").stdout


@pytest.mark.parametrize(
    ("rules", "complaint"),
    [
        ("x = 1", "rules.py holds no label function"),
        ("1 / 0", "rules.py fails when it is run (ZeroDivisionError: division by zero)"),
        (RULES.replace('"yes"', '"ja"'), "large returns 'ja', which is no class; use one of no, yes"),
        (RULES.replace('columns["size"] > 0.5', 'columns["sice"] > 0.5'), "large fails (KeyError: 'sice')"),
        (
            RULES.replace("return np.where(", "return np.where(", 1).replace(
                '"colour"] == "red"', '"colour"][:3] == "red"'
            ),
            "red returns shape (3,) for 600 rows",
        ),
    ],
)
def test_what_is_wrong_with_a_function_is_told(project: Path, rules: str, complaint: str) -> None:
    (project / "rules.py").write_text(rules)
    refused = label(project, "--functions")
    assert refused.code == 2
    assert complaint in refused.complaint


def test_turned_labels_are_found_by_the_audit(tmp_path: Path) -> None:
    size, colour, answer = truth()
    turned = np.arange(0, NUM_ROWS, 20)
    given = answer.copy()
    given[turned] = np.where(answer[turned] == "yes", "no", "yes")
    table = pa.table({"person": np.arange(NUM_ROWS), "size": size, "colour": colour, "answer": given})
    folder = make_project(tmp_path / "demo", PROJECT.replace(", functions: rules.py", ""), table)
    told = label(folder, "--audit", "--limit", "30", "--json").json
    named = [one["row"] for one in told["rows"]]
    assert told["audited"] == NUM_ROWS
    assert len(set(named[:15]) & set(turned.tolist())) >= 9  # one label in twenty is turned
    assert "labels are probably wrong" in label(folder, "--audit").stdout


def test_prepared_data_learns_from_answers(project: Path) -> None:
    before = Project.load(project / "mlcluster.yaml").profile()
    ask_and_answer(project, 40)
    loaded = Project.load(project / "mlcluster.yaml")
    after = loaded.profile()
    assert sum(before.num_split_rows.values()) == 60
    assert sum(after.num_split_rows.values()) == 100
    assert before.source_digest != after.source_digest
    assert any("filled in from answers in 40 rows" in finding.message for finding in after.findings)
    snapshot = prepare(loaded.spec.data, base=project, folder=project / "snapshot", seed=0, engine=LocalEngine())
    assert sum(snapshot.num_rows.values()) == 100


def test_data_check_looks_at_the_labels_that_a_run_would_learn_from(project: Path) -> None:
    rule = ("--set", "data.expect.answer=[no]", "--set", "data.expect.size=..100")
    answers = half_labelled().column("answer").to_pylist()
    before = run_here(project, "data", "check", "--json", *rule)
    assert (before.json["rows_without_target"], before.json["notes"]) == (540, [])
    assert before.json["bad_rows"] == answers.count("yes")
    ask_and_answer(project, 40)
    given = truth()[2]
    asked = {int(row["row"]) for row in csv.DictReader(io.StringIO((project / "queue.csv").read_text()))}
    after = run_here(project, "data", "check", "--quarantine", "bad.parquet", "--json", *rule)
    assert after.code == 2
    assert after.json["rows_without_target"] == 500
    assert after.json["bad_rows"] == answers.count("yes") + sum(given[row] == "yes" for row in asked)
    assert pq.read_table(project / "bad.parquet").column("answer").to_pylist() == ["yes"] * after.json["bad_rows"]
    said = run_here(project, "data", "check", *rule)
    assert "answer is filled in from answers in 40 rows" in said.stderr
    # What has just arrived has its own rows, which nobody has answered.
    arrived = run_here(project, "data", "check", "data/table.parquet", "--json", *rule)
    assert (arrived.json["rows_without_target"], arrived.json["notes"]) == (540, [])


def test_data_check_takes_a_source_without_the_target(tmp_path: Path) -> None:
    text = PROJECT.replace("budget: 60, functions: rules.py", "classes: ['no', 'yes']")
    folder = make_project(tmp_path / "demo", text, half_labelled().drop_columns(["answer"]))
    ask_and_answer(folder, 30)
    done = run_here(folder, "data", "check", "--json", "--set", "data.expect.answer=[no, yes]")
    assert (done.code, done.json["rows_without_target"]) == (0, 570)


def test_labels_of_functions_are_learned_from_and_never_judged_by(project: Path) -> None:
    plain = Project.load(project / "mlcluster.yaml")
    filled = Project.load(project / "mlcluster.yaml", overrides=("data.labels.fill_above=0.8",))
    rows = [
        prepare(
            one.spec.data, base=project, folder=project / f"snapshot-{number}", seed=0, engine=LocalEngine()
        ).num_rows
        for number, one in enumerate((plain, filled))
    ]
    assert rows[1]["train"] > 3 * rows[0]["train"]
    assert (rows[1]["validation"], rows[1]["test"]) == (rows[0]["validation"], rows[0]["test"])


def test_class_shares_that_are_known_are_taken_for_true(project: Path) -> None:
    file = project / "mlcluster.yaml"
    file.write_text(file.read_text().replace("{budget: 60,", "{class_shares: {'yes': 0.9, 'no': 0.1}, budget: 60,"))
    key = "data.labels.class_shares"
    told = label(project, "--functions", "--json").json
    without = label(project, "--functions", "--set", f"{key}=null", "--json").json
    assert told["has_class_shares"]
    assert told["functions"][1]["accuracy"] > without["functions"][1]["accuracy"]  # `red` says nothing but yes
    refused = label(project, "--functions", "--set", f"{key}={{'yes': 0.9, 'maybe': 0.1}}")
    assert "give a share for each of no, yes" in refused.complaint
    refused = label(project, "--functions", "--set", f"{key}={{'yes': 0.9, 'no': 0.3}}")
    assert "adds up to 1.2" in refused.stderr


def test_functions_that_nothing_judges_fill_nothing_in(tmp_path: Path) -> None:
    table = half_labelled().slice(40)  # twenty labels are left
    folder = make_project(tmp_path / "demo", PROJECT, table)
    (folder / "rules.py").write_text(RULES)
    refused = run_here(folder, "data", "profile", "--set", "data.labels.fill_above=0.9")
    assert refused.code == 2
    assert (
        "fill_above = 0.9 fills in from functions that only 20 known labels judge; label 30 rows" in refused.complaint
    )
    assert "accuracies are guesses: 20 labels are known" in label(folder, "--functions").stdout


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_source_without_any_label_is_labelled_from_nothing(tmp_path: Path, form: str) -> None:
    text = PROJECT.replace("budget: 60, functions: rules.py", "classes: [no, yes]").replace("no, yes", "'no', 'yes'")
    folder = make_project(tmp_path / "demo", text, half_labelled().drop_columns(["answer"]))
    if form == "csv":
        half_labelled().drop_columns(["answer"]).to_pandas().to_csv(folder / "data" / "table.csv", index=False)
        text = (folder / "mlcluster.yaml").read_text().replace("table.parquet", "table.csv")
        (folder / "mlcluster.yaml").write_text(text)
    first = label(folder, "--next", "30", "--json")
    assert first.code == 0, first.stderr
    assert not first.json["by_model"]
    answer_all(folder / "queue.csv", lambda row: str(truth()[2][row]))
    assert label(folder, "--add", "queue.csv").code == 0
    assert label(folder, "--next", "30", "--json").json["by_model"]
    profile = run_here(folder, "data", "profile", "--json").json
    assert sum(profile["num_split_rows"].values()) == 30


def test_a_quantity_is_labelled_too(tmp_path: Path) -> None:
    size, colour, _ = truth()
    amount = pa.array(size * 3, mask=np.arange(NUM_ROWS) >= 60)
    table = pa.table({"person": np.arange(NUM_ROWS), "size": size, "colour": colour, "answer": amount})
    folder = make_project(tmp_path / "demo", PROJECT.replace(", functions: rules.py", ""), table)
    assert label(folder, "--next", "10").code == 0
    answer_all(folder / "queue.csv", lambda row: f"{3 * size[row]:.3f}")
    assert label(folder, "--add", "queue.csv").code == 0
    assert label(folder, "--json").json["labelled_by_answers"] == 10
    assert "the audit is of classes" in label(folder, "--audit").complaint


def test_votes_from_elsewhere_are_settled_by_who_is_right(project: Path) -> None:
    """Two who know and three who always say no, of forty rows."""
    rng = np.random.default_rng(0)
    rows = range(100, 140)
    lines = ["key,annotator,label"]
    for row in rows:
        for name in ("ann", "bob", "cid"):
            right = str(truth()[2][row])
            said = right if rng.random() < 0.9 else {"yes": "no", "no": "yes"}[right]
            lines.append(f"p{row:03d},{name},{said}")
        lines += [f"p{row:03d},{name},no" for name in ("x", "y", "z")]
    (project / "votes.csv").write_text("\n".join(lines) + "\n")
    loaded = Project.load(project / "mlcluster.yaml", overrides=("data.labels.votes=votes.csv",))
    with loaded.labelling() as labelling:
        status = labelling.status()
    right = [str(truth()[2][row]) for row in rows]
    assert status["labelled_by_answers"] == 40
    assert abs(status["by_label"].get("yes", 0) - right.count("yes")) <= 4


def test_a_run_with_an_audit_says_which_labels_are_doubtful_and_keeps_the_list(project: Path) -> None:
    spec = Project.load(project / "mlcluster.yaml", overrides=("data.labels.audit=true",)).spec
    run = RunFolder(path=project / "run")
    said = io.StringIO()
    with closing(Ledger(run.ledger_path(), cap_usd=1.0, now=time.time())) as ledger:
        meter = StageMeter(ledger, usd_per_second=1e-5)
        meter.reserve("data", worst_case_seconds=60)
        context = RunContext(
            spec=spec,
            project_folder=project,
            workspace=Workspace.of(project, spec.project),
            run=run,
            lease=cast(Lease, None),  # the data stage holds no worker
            ledger=ledger,
            meter=meter,
            progress=Progress(stream=said),
            sources=SourceCache(project / "sources"),
            keys=BundleKeys(signing=None, trusted=None),
            seed=0,
        )
        run_data_stage(context, LocalEngine())
    told = json.loads((run.path / "label_audit.json").read_text())
    assert told["audited"] == NUM_LABELLED
    assert f"label audit: {told['suspects']} of 60 labels are probably wrong" in said.getvalue()


def test_several_things_at_once_are_refused(project: Path) -> None:
    refused = label(project, "--audit", "--status")
    assert refused.code == 2
    assert "give one of --next, --add, --status, --audit, --functions" in refused.complaint


def test_fill_above_without_functions_is_refused(project: Path) -> None:
    refused = label(project, "--set", "data.labels.fill_above=0.9", "--set", "data.labels.functions=null")
    assert refused.code == 2
    assert "has fill_above without functions" in refused.stderr


def test_what_the_verb_prints_for_programs_is_one_line(project: Path) -> None:
    for words in (("--status",), ("--functions",), ("--next", "3"), ("--audit",)):
        told = label(project, *words, "--json")
        assert (told.code, len(told.stdout.splitlines())) == (0, 1), told.stderr
        json.loads(told.stdout)
