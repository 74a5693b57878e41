"""What a user can get wrong: each is one line that names file, line, key, value and fix, and exit code 2."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.projects import make_project, run_here, small_table

GOOD = """
    project: demo
    data:
      source: data/table.parquet
      target: answer
      exclude:
        - amount
        - empty
      expect:
        size: -9..9
    models: [linear, tree]
    tune:
      budget:
        usd: 0.2
        minutes: 10
    verify:
      - roc_auc >= 0.5
"""
"""Line 4 is `target`, line 5 `exclude`, line 12 `budget`."""

Change = tuple[str, str]

BAD_KEYS: list[tuple[str, Change, str]] = [
    (
        "an unknown key",
        ("models: [", "modles: ["),
        "mlcluster.yaml:10: modles = ['linear', 'tree'] is not a key; did you mean models.",
    ),
    (
        "an unknown key in a section",
        ("minutes: 10", "minuts: 10"),
        "mlcluster.yaml:14: tune.budget.minuts = 10 is not a key; did you mean minutes.",
    ),
    (
        "a wrong type",
        ("usd: 0.2", "usd: cheap"),
        "mlcluster.yaml:13: tune.budget.usd = cheap ",
    ),
    ("a value out of range", ("usd: 0.2", "usd: -1"), "mlcluster.yaml:13: tune.budget.usd = -1 "),
    ("an unknown family", ("[linear, tree]", "[linear, tre]"), "mlcluster.yaml:10: models.1 = tre "),
    (
        "a missing required key",
        ("  target: answer\n    ", ""),
        "mlcluster.yaml:2: data.target is required and missing; add `target: ...` under data.",
    ),
    (
        "a key twice",
        ("target: answer", "target: answer\n      target: size"),
        "mlcluster.yaml:5: target is given twice",
    ),
    ("what is not YAML", ("models: [linear, tree]", "models: [linear, tree"), "mlcluster.yaml:11: this is not YAML"),
    (
        "a gate that is no requirement",
        ("- roc_auc >= 0.5", "- as good as it gets"),
        "mlcluster.yaml:16: verify.0 = as good",
    ),
    (
        "a gate on an unknown measure",
        ("- roc_auc >= 0.5", "- roc_acu >= 0.5"),
        "mlcluster.yaml:16: verify.0 = roc_acu >= 0.5",
    ),
    (
        "a target that is no column",
        ("target: answer", "target: answr"),
        "mlcluster.yaml:4: data.target = answr is no column of table.parquet; did you mean answer?",
    ),
    (
        "an excluded column that is none",
        ("- empty", "- emty"),
        "mlcluster.yaml:7: data.exclude = emty is no column of table.parquet; did you mean empty?",
    ),
    (
        "an expectation of a column that is none",
        ("size: -9..9", "sise: -9..9"),
        "mlcluster.yaml:9: data.expect = sise is no column of table.parquet; did you mean size?",
    ),
    (
        "a sensitive column that is none",
        ("target: answer", "target: answer\n      sensitive: [sex]"),
        "mlcluster.yaml:5: data.sensitive = sex is no column of table.parquet; use one of size, count, ",
    ),
    (
        "a key that is no column",
        ("target: answer", "target: answer\n      key: person"),
        "mlcluster.yaml:5: data.key = person is no column of table.parquet; ",
    ),
    (
        "a time that is no column",
        ("target: answer", "target: answer\n      time: as_of"),
        "mlcluster.yaml:5: data.time = as_of is no column of table.parquet; ",
    ),
    (
        "a split that is no column",
        ("target: answer", "target: answer\n      split: {column: part}"),
        "mlcluster.yaml:5: data.split.column = part is no column of table.parquet; ",
    ),
    (
        "a split column without the words",
        ("target: answer", "target: answer\n      split: {column: colour}"),
        "mlcluster.yaml:5: data.split.column = colour holds ",
    ),
    (
        "a source that is not there",
        ("data/table.parquet", "data/tabel.parquet"),
        "mlcluster.yaml:3: data.source = data/tabel.parquet matches no file; check the path, ",
    ),
    (
        "a source of an unknown format",
        ("data/table.parquet", "data/notes.txt"),
        "mlcluster.yaml:3: data.source = ",
    ),
    (
        "a source that is cut short",
        ("data/table.parquet", "data/torn.parquet"),
        "mlcluster.yaml:3: data.source = data/torn.parquet cannot be read (",
    ),
    (
        "a source without anything",
        ("data/table.parquet", "data/empty.csv"),
        "mlcluster.yaml:3: data.source = data/empty.csv ",
    ),
    (
        "a source without rows",
        ("data/table.parquet", "data/header.csv"),
        "mlcluster.yaml:3: data.source = data/header.csv holds no rows",
    ),
    (
        "a target of one class",
        ("target: answer", "target: constant"),
        "mlcluster.yaml:4: data.target = constant has the one class 'same' in all 120 rows; name a column that varies.",
    ),
    (
        "a target without values",
        ("target: answer\n      exclude:\n        - amount\n        - empty", "target: empty"),
        "mlcluster.yaml:4: data.target = empty is missing in every row; name a column that holds the answer.",
    ),
    (
        "a task that the target does not fit",
        ("target: answer", "target: answer\n      task: regression"),
        "mlcluster.yaml:4: data.target = answer has type string, but data.task = regression needs numbers; ",
    ),
    (
        "an expectation that is broken",
        ("size: -9..9", "count: 0..3\n      bad_rows: fail"),
        "mlcluster.yaml:9: data.expect.count = 0..3 is broken by ",
    ),
    (
        "a metric of another task",
        ("tune:", "tune:\n      metric: r2"),
        "mlcluster.yaml:12: tune.metric = r2 does not measure a binary task; use one of roc_auc, ",
    ),
    (
        "too few dollars for one trial",
        ("usd: 0.2", "usd: 0.005"),
        "mlcluster.yaml:13: tune.budget.usd = 0.005 leaves ",
    ),
    (
        "too few minutes for one trial",
        ("minutes: 10", "minutes: 0.1"),
        "mlcluster.yaml:14: tune.budget.minutes = 0.1 leaves 6 s for the search, too little for one trial; ",
    ),
]


def project_with(folder: Path, change: Change) -> Path:
    text = GOOD
    assert text.count(change[0]) == 1, change
    make_project(folder, text.replace(*change))
    (folder / "data" / "notes.txt").write_text("size,answer\n1,2\n")
    whole = (folder / "data" / "table.parquet").read_bytes()
    (folder / "data" / "torn.parquet").write_bytes(whole[: len(whole) // 2])
    (folder / "data" / "empty.csv").write_text("")
    (folder / "data" / "header.csv").write_text("size,answer,amount,empty\n")
    return folder


def test_the_file_that_all_of_these_are_made_from_is_right(tmp_path: Path) -> None:
    make_project(tmp_path / "demo", GOOD)
    assert run_here(tmp_path / "demo", "plan").code == 0


@pytest.mark.parametrize(("change", "complaint"), [case[1:] for case in BAD_KEYS], ids=[case[0] for case in BAD_KEYS])
@pytest.mark.parametrize("verb", ["plan", "run"])
def test_one_line_names_file_line_key_value_and_fix(tmp_path: Path, verb: str, change: Change, complaint: str) -> None:
    refused = run_here(project_with(tmp_path / "demo", change), verb)
    assert refused.code == 2
    assert refused.complaint.startswith(complaint)
    assert refused.complaint.endswith((".", "?"))


SET_FROM_OUTSIDE = [
    ("data.target=answr", "--set: data.target = answr is no column of table.parquet; did you mean answer?"),
    ("tune.metric=r2", "--set: tune.metric = r2 does not measure a binary task; "),
    ("tune.budget.usd=0.005", "--set: tune.budget.usd = 0.005 leaves "),
    ("tune.budget.usd=cheap", "--set: tune.budget.usd = cheap "),
    ("data.exclude=[emty]", "--set: data.exclude = emty is no column"),
    ("verify=[fast]", "--set: verify.0 = fast "),
    ("tune", "--set tune is not key.path=value; write for example --set tune.budget.usd=20."),
    ("models.linear=1", "--set models.linear=1 goes through models = ['linear', 'tree'], which is no mapping; "),
]


@pytest.mark.parametrize(("assignment", "complaint"), SET_FROM_OUTSIDE)
def test_what_was_set_from_outside_is_said_to_be(tmp_path: Path, assignment: str, complaint: str) -> None:
    make_project(tmp_path / "demo", GOOD)
    refused = run_here(tmp_path / "demo", "plan", "--set", assignment)
    assert refused.code == 2
    assert refused.complaint.startswith(complaint)


def test_each_of_several_bad_keys_has_a_line(tmp_path: Path) -> None:
    make_project(tmp_path / "demo", GOOD.replace("usd: 0.2", "usd: 0").replace("models: [linear", "models: [liner"))
    refused = run_here(tmp_path / "demo", "plan")
    assert refused.code == 2
    lines = [line.split(" = ")[0] for line in refused.stderr.splitlines()]
    assert lines == ["mlcluster: mlcluster.yaml:10: models.0", "mlcluster: mlcluster.yaml:13: tune.budget.usd"]


def test_a_project_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert run_here(tmp_path, "plan").complaint == (
        "mlcluster.yaml cannot be read (No such file or directory); "
        "give an existing project file, or make one with `mlcluster init`."
    )
    assert run_here(tmp_path, "run", "--config", "other.yaml").complaint.startswith("other.yaml cannot be read")


def test_a_port_in_use_is_said_before_anything_is_started(tmp_path: Path) -> None:
    make_project(tmp_path / "demo", GOOD)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = run_here(tmp_path / "demo", "run", "--port", str(port))
    assert refused.code == 2
    assert refused.stderr.splitlines()[-1] == (
        f"mlcluster: --port = {port} is in use by another process; end that, or give a free one with --port."
    )
    assert not (tmp_path / "demo" / ".mlcluster" / "ray").exists()
    assert not (tmp_path / "demo" / ".mlcluster" / "runs").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--port", "70000"),
        ("run", "--seed", "-1"),
        ("tune", "--port", "8000"),
        ("rnu",),
        ("init",),
        ("init", "x", "--sample", "iris"),
        ("submit", "nothing"),
        ("lineage",),
    ],
)
def test_words_that_the_command_line_does_not_know_are_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    refused = run_here(tmp_path, *words)
    assert (refused.code, refused.stdout) == (2, "")
    assert "Error: " in refused.stderr


def bytes_column(table: pa.Table) -> pa.Table:
    return table.append_column("when", pa.array([b"x"] * table.num_rows, pa.binary()))


def duplicated_name(table: pa.Table) -> pa.Table:
    return table.append_column("size", table["size"])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (bytes_column, "mlcluster.yaml:3: data.source = table.parquet has the column when of type binary"),
        (duplicated_name, "mlcluster.yaml:3: data.source = data/table.parquet has the column 'size' twice"),
    ],
)
def test_a_table_that_no_model_can_take_is_refused(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table], complaint: str
) -> None:
    make_project(tmp_path / "demo", GOOD)
    pq.write_table(change(small_table()), tmp_path / "demo" / "data" / "table.parquet")
    assert run_here(tmp_path / "demo", "plan").complaint.startswith(complaint)
