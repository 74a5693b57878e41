"""Verbs that start nothing, and what they say before there is anything to say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mlcluster.cli.main import VERBS
from mlcluster.cli.samples import SAMPLES
from mlcluster.spec import load_spec
from tests.cli.projects import ROOT, make_project, run_here, run_process

PLAIN = """
    project: demo
    data:
      source: data/table.parquet
      target: answer
      exclude: [amount, empty, constant]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "demo", PLAIN)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `init` makes when nothing is said."""
    folder = tmp_path_factory.mktemp("init")
    assert run_here(folder, "init", "demo").code == 0
    return folder / "demo"


def files_under(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.py")}


def test_init_makes_the_jobs_that_the_repository_shows(sample: Path) -> None:
    assert files_under(sample / "jobs") == files_under(ROOT / "jobs")
    assert all(len(text.splitlines()) < 40 for text in files_under(sample / "jobs").values())


def test_no_job_stands_for_a_module_of_the_standard_library(sample: Path) -> None:
    """jobs/profile.py would: torch imports cProfile, and that imports profile."""
    probe = (
        "import runpy, sys\n"
        "sys.path[0] = sys.argv[1]\n"  # as Python does for a script there
        "runpy.run_path(f'{sys.argv[1]}/{sys.argv[2]}.py')\n"
        "import cProfile\n"
        "print(cProfile._pyprofile.__file__, *sys.path)"
    )
    jobs = sample / "jobs"
    for job in ("profile", "tune"):
        told = run_process(sample, command=(sys.executable, "-c", probe, str(jobs), job))
        assert told.code == 0, told.stderr
        assert str(jobs) not in told.stdout


def test_init_makes_the_cluster_configs_that_the_repository_shows(sample: Path) -> None:
    made, shown = (
        {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.yaml")}
        for folder in (sample / "cluster-configs", ROOT / "cluster-configs")
    )
    assert made == shown
    assert "kuberay/raycluster.yaml" in made


def test_inits_project_file_loads_and_keeps_its_workspace_out_of_git(sample: Path) -> None:
    spec = load_spec(sample / "mlcluster.yaml")
    assert (spec.project, spec.data.target, spec.not_acted_on()) == ("demo", "diagnosis", ())
    assert ".mlcluster/" in (sample / ".gitignore").read_text().splitlines()


def test_inits_request_is_the_first_row(sample: Path) -> None:
    first = pq.read_table(sample / "data" / "breast_cancer.parquet").slice(0, 1).to_pylist()[0]
    request = json.loads((sample / "request.json").read_text())
    assert {one["name"]: one["data"] for one in request["inputs"]} == {
        name: [value] for name, value in first.items() if name != "diagnosis"
    }


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_can_be_planned_as_it_is(tmp_path: Path, name: str) -> None:
    assert run_here(tmp_path, "init", "demo", "--sample", name).code == 0
    plan = run_here(tmp_path / "demo", "plan", "--json")
    assert plan.code == 0, plan.stderr
    assert plan.json["forecast_usd"] <= plan.json["worst_case_usd"] <= plan.json["cap_usd"]


def test_init_writes_into_no_folder_that_holds_something_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "mine.txt").write_text("mine")
    assert run_here(tmp_path, "init", "demo").complaint == (
        "FOLDER = demo is not empty; name a new one, or add --force."
    )
    assert run_here(tmp_path, "init", "demo", "--force").code == 0
    assert (tmp_path / "demo" / "mine.txt").read_text() == "mine"


def test_init_refuses_a_name_that_no_project_may_bear(tmp_path: Path) -> None:
    refused = run_here(tmp_path, "init", "1 two")
    assert (refused.code, refused.complaint) == (
        2,
        "FOLDER = 1 two is no usable project name; use letters, digits, - and _.",
    )
    assert not (tmp_path / "1 two").exists()


def test_config_prints_all_defaults_and_reads_back_as_the_same(project: Path) -> None:
    shown = run_here(project, "config")
    assert shown.code == 0
    assert "prefer_simple_within: 0.0" in shown.stdout
    (project / "resolved.yaml").write_text(shown.stdout)
    assert run_here(project, "config", "--config", "resolved.yaml").stdout == shown.stdout
    assert load_spec(project / "resolved.yaml").fingerprint == load_spec(project / "mlcluster.yaml").fingerprint


def test_config_shows_what_was_set(project: Path) -> None:
    shown = run_here(project, "config", "--json", "--set", "tune.budget.usd=7", "--set", "verify=[r2 >= 0.5]").json
    assert shown["tune"]["budget"]["usd"] == 7
    assert len(shown["fingerprint"]) == 12
    assert shown["verify"][0]["metric"] == "r2"


def test_the_plan_is_a_table_of_stages_with_their_dollars(project: Path) -> None:
    shown = run_here(project, "plan")
    assert (shown.code, shown.stderr) == (0, "")
    for word in ("data", "tune", "verify", "record", "deploy", "total", "cap"):
        assert any(line.startswith(word) for line in shown.stdout.splitlines()), word
    assert "120 rows" in shown.stdout


def test_the_plan_for_programs_adds_up(project: Path) -> None:
    plan = run_here(project, "plan", "--json").json
    assert plan["forecast_usd"] == pytest.approx(sum(stage["expected_usd"] for stage in plan["stages"]))
    assert plan["worst_case_usd"] == pytest.approx(sum(stage["worst_case_usd"] for stage in plan["stages"]))
    assert plan["worst_case_usd"] <= plan["cap_usd"]
    assert sum(plan["rows"].values()) == 120
    assert plan["rungs_seconds"] == sorted(plan["rungs_seconds"])


@pytest.mark.parametrize("verb", ["run", "tune", "verify", "deploy"])
def test_a_dry_run_shows_the_plan_and_leaves_no_trace(project: Path, verb: str) -> None:
    before = sorted(path.name for path in project.iterdir())
    shown = run_here(project, verb, "--dry-run", "--json")
    assert (shown.code, shown.stderr) == (0, "")
    assert shown.json == run_here(project, "plan", "--json").json
    assert sorted(path.name for path in project.iterdir()) == before


@pytest.mark.parametrize("verb", [("plan",), ("run", "--dry-run")])
def test_keys_that_nothing_acts_on_yet_are_said(project: Path, verb: tuple[str, ...]) -> None:
    notes = run_here(project, *verb, "--set", "monitor.drift.psi=0.1").stderr.splitlines()
    assert notes == [
        "note: monitor is accepted, and nothing acts on it yet",
    ]
    assert run_here(project, *verb, "--set", "workers=cpu").stderr == ""


def test_a_profile_is_text_json_and_a_page(project: Path) -> None:
    text = run_here(project, "data", "profile")
    assert text.code == 0
    assert "answer" in text.stdout
    both = run_here(project, "data", "profile", "--json", "--html", "profile.html")
    assert both.stderr == "wrote profile.html\n"
    assert both.json["task"] == "binary"
    page = (project / "profile.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html")
    assert "colour" in page


def test_status_before_any_run_says_what_to_do(project: Path) -> None:
    shown = run_here(project, "status")
    assert (shown.code, shown.stdout) == (0, "run       none yet; start with `mlcluster run`\nendpoint  none\n")
    assert run_here(project, "status", "--json").json == {"project": "demo", "run": None, "endpoint": None}


def test_down_before_any_run_is_no_error(project: Path) -> None:
    shown = run_here(project, "down")
    assert (shown.code, shown.stdout, shown.stderr) == (0, "nothing was running\n", "")
    assert run_here(project, "down", "--json").json == {"was_running": False}


@pytest.mark.parametrize(
    "words", [("cost",), ("predict", "data/table.parquet"), ("lineage", f"demo.1.{0:032x}"), ("cost", "--json")]
)
def test_what_needs_a_run_says_so_before_there_is_one(project: Path, words: tuple[str, ...]) -> None:
    before = sorted(path.name for path in project.iterdir())
    refused = run_here(project, *words)
    assert refused.code == 2
    assert refused.complaint.startswith("this project has no run yet; start one with `mlcluster run`")
    assert sorted(path.name for path in project.iterdir()) == before


def test_a_prediction_id_that_is_none_is_refused(project: Path) -> None:
    refused = run_here(project, "lineage", "what")
    assert refused.code == 2
    assert refused.complaint == "prediction id = 'what' is none; copy it from the x-prediction-id of an answer."


def test_submit_shows_the_command_that_it_would_run(sample: Path) -> None:
    shown = run_here(sample, "submit", "tune", "--dry-run", "--set", "verify=['a b']", "--address", "http://h:1")
    assert (shown.code, shown.stdout) == (0, "")
    assert shown.stderr == (
        "ray job submit --address http://h:1 --working-dir . -- python jobs/tune.py --config mlcluster.yaml "
        "'--set=verify=['\"'\"'a b'\"'\"']'\n"
    )


def test_submit_without_jobs_says_how_to_get_them(project: Path) -> None:
    assert run_here(project, "submit", "tune").complaint == (
        "jobs/tune.py = no file here; run this in a project's folder, or make one with `mlcluster init`."
    )


def test_doctor_names_what_is_wrong_and_fails(project: Path) -> None:
    fine = run_here(project, "doctor", "--json", "--port", "8799")
    checks = {check["name"]: check for check in fine.json["checks"]}
    assert checks["project"]["found"].startswith("120 rows, binary")
    wrong = run_here(project, "doctor", "--set", "data.target=answr")
    assert wrong.code == 2
    assert "WRONG project       --set: data.target = answr is no column of table.parquet; did you mean answer?" in (
        wrong.stdout
    )


def test_every_verb_has_help_that_says_what_it_does(tmp_path: Path) -> None:
    listing = run_here(tmp_path, "--help")
    for verb in VERBS:
        assert any(line.split()[:1] == [verb] for line in listing.stdout.splitlines()), verb
        shown = run_here(tmp_path, verb, "--help")
        assert (shown.code, shown.stderr) == (0, "")


def test_help_answers_without_importing_ray_or_torch(tmp_path: Path) -> None:
    probe = (
        "import sys\nfrom mlcluster.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'ray', 'torch', 'mlflow'} & set(sys.modules)), file=sys.stderr)"
    )
    assert run_process(tmp_path, command=(sys.executable, "-c", probe)).stderr == "[]\n"


@pytest.mark.parametrize("verb", [("plan",), ("run",)])
def test_gpu_workers_where_there_is_no_gpu_are_refused_with_what_there_is(
    project: Path, verb: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    refused = run_here(project, *verb, "--set", "workers=gpu")
    assert refused.code == 2
    assert "workers = gpu asks for a GPU, and there are " in refused.complaint
    assert "set workers: auto or cpu" in refused.complaint


def test_a_plan_shows_the_kinds_of_worker_and_where_a_gpu_is_cheaper(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)))
    asked = ("plan", "--set", "workers=both", "--set", "prices.gpu_hour=0.01")
    text = run_here(project, *asked).stdout
    assert "workers 3 cpu at $0.05 an hour each, 1 gpu at $0.06 an hour each\n" in text
    assert "mlp, other values largest: gpu from width " in text
    told = run_here(project, *asked, "--json").json
    assert [(kind["name"], kind["num_slots"]) for kind in told["worker_kinds"]] == [("cpu", 3), ("gpu", 1)]
    assert {one["family"] for one in told["crossovers"]} == {"linear", "mlp"}
    assert told["workers"] == 4
