"""Three machines under `cluster-configs/local.yaml`: the whole line as a job, and what it leaves where."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import Any

import httpx
import pytest

from tests.cli.projects import Outcome, environment
from tests.cluster.local_cluster import RUN, SEARCH, SETTINGS, Job, LocalCluster, last_lines

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("default")]


def submit(cluster: LocalCluster, stage: str, *words: str) -> Outcome:
    return cluster.call("mlcluster", "submit", stage, *words, folder=cluster.home / "demo")


def nodes_of(cluster: LocalCluster, class_name: str) -> set[str]:
    """The machines on which actors of a class have been."""
    words = "ray list actors --limit 1000 --format json 2>/dev/null"
    actors = json.loads(cluster.head.run("bash", "-c", f". ~/.ray/env; {words}").stdout)
    nodes = json.loads(cluster.head.run("bash", "-c", ". ~/.ray/env; ray list nodes --format json 2>/dev/null").stdout)
    addresses = {node["node_id"]: node["node_ip"] for node in nodes}
    return {addresses[actor["node_id"]] for actor in actors if class_name in actor["class_name"]}


def test_the_whole_line_runs_as_one_job_on_workers_that_are_still_joining(pipeline: Job) -> None:
    assert pipeline.submitted.code == 0, last_lines(pipeline.submitted)
    assert pipeline.json["passed"]
    assert pipeline.json["trials"] >= 10
    assert 0 < pipeline.json["spent_usd"] <= pipeline.json["cap_usd"]
    assert "2 cpu at" in pipeline.log


def test_trials_ran_on_each_worker_and_nothing_of_them_on_the_head(cluster: LocalCluster, pipeline: Job) -> None:
    assert nodes_of(cluster, "Trainable") == {machine.address for machine in cluster.workers}


def test_the_run_and_its_checkpoints_are_on_the_heads_disk_alone(cluster: LocalCluster, pipeline: Job) -> None:
    workspace = cluster.head.disk / ".mlcluster" / "demo"
    run = workspace / "runs" / pipeline.json["run"]
    assert list((run / "study" / "checkpoints").glob("*.state"))
    assert (workspace / "mlflow.db").is_file()
    assert not (cluster.home / "demo" / ".mlcluster").exists()
    for machine in cluster.workers:
        assert not list(machine.disk.rglob("*.state"))


def test_the_model_answers_outside_of_the_head_through_a_tunnel(cluster: LocalCluster, pipeline: Job) -> None:
    request = (cluster.home / "demo" / "request.json").read_bytes()
    answer = httpx.post(f"http://127.0.0.1:{cluster.endpoint}/v2/models/demo/infer", content=request, timeout=60)
    assert answer.json()["outputs"][0]["data"] == ["malignant"]
    assert answer.json()["model_version"] == pipeline.json["model_version"]
    with pytest.raises(httpx.ConnectError):
        httpx.post(f"http://{cluster.head.address}:8000/v2/models/demo/infer", content=request, timeout=10)


def test_submit_is_the_same_job_and_goes_on_with_the_run_of_that_name(cluster: LocalCluster, pipeline: Job) -> None:
    submitted = submit(cluster, "verify", *SETTINGS, "--", *RUN)
    job = cluster.ended(submitted)
    assert submitted.code == 0, last_lines(submitted)
    assert job.json["run"] == pipeline.json["run"]
    assert "is there already" in submitted.stdout
    assert job.details["entrypoint"].startswith("python jobs/verify.py --config mlcluster.yaml")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--set", "tune.budget.minutes=2", "--", *RUN), 2, "--name = nightly is the name of run 0"),
        (("--set", "verify=[roc_auc >= 0.9999]", "--", *RUN), 3, "roc_auc >= 0.9999"),
    ],
    ids=["a name of another configuration", "a gate that fails"],
)
def test_submit_ends_with_the_exit_code_of_its_job(
    cluster: LocalCluster, pipeline: Job, words: Any, code: int, said: str
) -> None:
    submitted = submit(cluster, "verify", *SETTINGS, *words)
    assert submitted.code == code, last_lines(submitted)
    assert said in submitted.stdout


def test_ctrl_c_leaves_the_job_running_and_says_how_to_come_back(cluster: LocalCluster, pipeline: Job) -> None:
    words = ("submit", "tune", *SEARCH, "--set", "tune.budget.minutes=0.9", "--", "--name", "other")
    command = [sys.executable, "-m", "mlcluster.cli.main", *words]
    with subprocess.Popen(
        command,
        cwd=cluster.home / "demo",
        env=environment(cluster.client),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Whoever runs the tests in the background may have had it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - nothing but this
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        streamed = next(line for line in process.stdout if line.startswith("data     snapshot"))
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(timeout=30) == 130
    assert streamed
    follow = next(line for line in said.splitlines() if "come back to it with: " in line).partition("with: ")[2]
    job_id = follow.split()[-1]
    assert cluster.get(f"/api/jobs/{job_id}")["status"] == "RUNNING"
    followed = cluster.call(*follow.split(), RAY_AUTH_MODE="token")
    assert followed.code == 0, last_lines(followed)
    assert json.loads([line for line in followed.stdout.splitlines() if line.startswith("{")][-1])["trials"] >= 3
    deadline = time.monotonic() + 20
    while cluster.get(f"/api/jobs/{job_id}")["status"] == "RUNNING" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert cluster.get(f"/api/jobs/{job_id}")["status"] == "SUCCEEDED"


def test_verbs_that_report_and_down_run_as_jobs(cluster: LocalCluster, pipeline: Job) -> None:
    def ran(*words: str) -> Outcome:
        command = ("ray", "job", "submit", "--working-dir", ".", "--", "mlcluster", *words)
        return cluster.call(*command, folder=cluster.home / "demo", RAY_AUTH_MODE="token")

    cost = ran("cost")
    assert cost.code == 0, last_lines(cost)
    assert "tune" in cost.stdout
    down = ran("down")
    assert down.code == 0, last_lines(down)
    assert "\nended\n" in down.stdout
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{cluster.endpoint}/v2/models/demo", timeout=10).raise_for_status()
