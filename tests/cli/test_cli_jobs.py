"""The stage jobs, for real: `ray job submit` to a head that was started by hand, with tokens on."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.cli.projects import Outcome, environment, free_ports, run_here, run_process

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.filterwarnings("default")]

SETTINGS = ("--set", "tune.budget.minutes=0.4", "--set", "serve.replicas=1..1")
BIN = Path(sys.executable).parent


@dataclass(frozen=True, kw_only=True)
class Head:
    """A cluster of one node. `home` holds the workspaces, `port` is free for the endpoint."""

    url: str
    token: str
    gcs: int
    home: Path
    project: Path
    port: int
    start: Callable[[], subprocess.Popen[bytes]]
    """Starts its Ray, again after it was ended, and waits until it answers."""
    processes: list[subprocess.Popen[bytes]]
    """That were started; the last one runs."""

    @property
    def client(self) -> dict[str, str]:
        """The environment of who may submit."""
        token_file = self.home / "token"
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_file), "RAY_API_SERVER_ADDRESS": self.url}

    def get(self, path: str) -> Any:
        answer = httpx.get(f"{self.url}{path}", headers={"Authorization": f"Bearer {self.token}"}, timeout=30)
        answer.raise_for_status()
        return answer.json()


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job that has ended."""

    submitted: Outcome
    status: str
    message: str
    log: str

    @property
    def json(self) -> Any:
        """The last line of everything that the job has written."""
        return json.loads(self.log.rstrip("\n").splitlines()[-1])


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    home = tmp_path_factory.mktemp("jobs")
    assert run_here(home, "init", "demo").code == 0
    token = secrets.token_hex(32)
    descriptor = os.open(home / "token", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(token)
    gcs, client, agent, dashboard, endpoint = free_ports(5)
    # Not pytest's own folder: the path of a Unix socket may have 107 characters, and Ray uses 60 of them.
    temporary = tempfile.mkdtemp(prefix="mlc-")
    command = [
        *(str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats", "--num-cpus=2"),
        *(f"--port={gcs}", f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}"),
        *("--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
        *("--node-ip-address=127.0.0.1", f"--temp-dir={temporary}"),
    ]
    settings = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(home / "token"),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "MLCLUSTER_HOME": str(home / "workspaces"),
    }
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        with (home / "head.log").open("w") as output:
            process = subprocess.Popen(
                command, env=environment(settings), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        processes.append(process)
        wait_until_answering(found, process)
        return process

    found = Head(
        url=f"http://127.0.0.1:{dashboard}",
        token=token,
        gcs=gcs,
        home=home,
        project=home / "demo",
        port=endpoint,
        start=start,
        processes=processes,
    )
    try:
        start()
        yield found
    finally:
        end(processes[-1])
        shutil.rmtree(temporary, ignore_errors=True)


def wait_until_answering(head: Head, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while True:
        try:
            head.get("/api/jobs/")
        except httpx.HTTPError as error:
            log = (head.home / "head.log").read_text()
            assert process.poll() is None and time.monotonic() < deadline, f"{error}\n{log}"
            time.sleep(0.3)
        else:
            return


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends the head and what it has started, by their ids."""
    whole = [psutil.Process(process.pid)]
    whole += whole[0].children(recursive=True)
    process.terminate()
    _, alive = psutil.wait_procs(whole, timeout=5)  # Ray itself would wait 30 s for its workers, and then kill them
    for survivor in alive:
        survivor.kill()
    process.wait(timeout=10)


def ended_job(head: Head, submitted: Outcome) -> Job:
    match = re.search(r"raysubmit_\w+", submitted.stdout)
    assert match is not None, submitted.stderr
    job = head.get(f"/api/jobs/{match[0]}")
    log = head.get(f"/api/jobs/{match[0]}/logs")["logs"]
    return Job(submitted=submitted, status=job["status"], message=job["message"], log=log)


def submit(head: Head, stage: str, *words: str) -> Job:
    """`mlcluster submit`, from the project's folder."""
    return ended_job(head, run_process(head.project, "submit", stage, *words, env=head.client))


def on_head(head: Head, code: str) -> Outcome:
    """Python on the cluster, in a namespace of its own; and a failure where it fails."""
    connect = f"import ray\nray.init(address='127.0.0.1:{head.gcs}', namespace='test', log_to_driver=False)\n"
    env = {**head.client, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    ran = run_process(head.home, command=(sys.executable, "-c", connect + code), env=env)
    assert ran.code == 0, ran.stderr
    return ran


def test_a_job_without_the_token_is_refused(head: Head) -> None:
    assert httpx.get(f"{head.url}/api/jobs/", timeout=30).status_code == 401
    refused = httpx.post(f"{head.url}/api/jobs/", json={"entrypoint": "touch stolen"}, timeout=30)
    assert refused.status_code == 401
    wrong = {"Authorization": f"Bearer {'0' * 64}"}
    assert httpx.post(f"{head.url}/api/jobs/", json={"entrypoint": "id"}, headers=wrong, timeout=30).status_code in (
        401,
        403,
    )
    assert head.get("/api/jobs/") == []


def test_the_profile_job_ends_in_json(head: Head) -> None:
    job = submit(head, "profile")
    assert job.submitted.code == 0
    assert (job.status, job.json["num_rows"], job.json["task"]) == ("SUCCEEDED", 569, "binary")


def test_the_tune_job_searches_on_the_cluster(head: Head) -> None:
    job = submit(head, "tune", *SETTINGS)
    assert job.status == "SUCCEEDED", job.log
    assert job.json["trials"] >= 3
    assert job.json["spent_usd"] <= job.json["cap_usd"]
    assert (head.home / "workspaces" / "demo" / "runs" / job.json["run"] / "study" / "result.json").is_file()


def test_a_study_whose_budget_ended_it_with_a_usable_result_ends_its_job_with_4(head: Head) -> None:
    result = max((head.home / "workspaces" / "demo" / "runs").glob("*/study/result.json"))
    done = result.read_text()
    result.write_text(json.dumps({**json.loads(done), "ending": "budget"}))
    try:
        job = submit(head, "tune", *SETTINGS)
    finally:
        result.write_text(done)
    assert (job.submitted.code, job.status) == (4, "FAILED")
    assert "a larger budget may find a better one" in job.log
    assert job.json["budget_spent"]


def test_a_failed_gate_fails_the_job_with_exit_code_3(head: Head) -> None:
    job = submit(head, "verify", *SETTINGS, "--set", "verify=[roc_auc >= 0.9999]")
    assert job.submitted.code == 3
    assert job.status == "FAILED"
    assert "exit code 3" in job.message
    assert not job.json["passed"]


def test_the_verify_job_registers_what_passes(head: Head) -> None:
    job = submit(head, "verify", *SETTINGS)
    assert job.status == "SUCCEEDED", job.log
    assert job.json["passed"]
    assert job.json["endpoint"] is None
    assert "is there already" in job.log


def test_the_deploy_job_leaves_an_endpoint(head: Head) -> None:
    job = submit(head, "deploy", *SETTINGS, "--", "--port", str(head.port))
    assert job.status == "SUCCEEDED", job.log
    assert job.json["endpoint"] == f"http://127.0.0.1:{head.port}"
    request = (head.project / "request.json").read_bytes()
    answer = httpx.post(job.json["infer_url"], content=request, timeout=60)
    assert answer.json()["outputs"][0]["data"] == ["malignant"]


def test_the_whole_line_runs_as_one_job_from_a_clean_folder(head: Head) -> None:
    settings = {"env_vars": {"MLCLUSTER_HOME": str(head.home / "workspaces")}}
    command = [
        *(str(BIN / "ray"), "job", "submit", "--address", head.url, "--working-dir", "."),
        *("--runtime-env-json", json.dumps(settings), "--", "python", "jobs/pipeline.py", "--config", "mlcluster.yaml"),
        *(*SETTINGS, "--port", str(head.port)),
    ]
    assert not (head.project / ".mlcluster").exists()
    job = ended_job(head, run_process(head.project, command=command, env=head.client))
    assert job.submitted.code == 0, job.log
    assert job.status == "SUCCEEDED"
    assert job.json["passed"]
    request = (head.project / "request.json").read_bytes()
    answer = httpx.post(job.json["infer_url"], content=request, timeout=60)
    assert answer.json()["model_version"] == job.json["model_version"]
    assert answer.headers["x-prediction-id"].startswith(f"demo.{job.json['model_version']}.")


def test_what_was_served_comes_back_with_the_head(head: Head) -> None:
    env = {
        **head.client,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "MLCLUSTER_HOME": str(head.home / "workspaces"),
    }
    url = f"http://127.0.0.1:{head.port}/v2/models/demo/infer"
    request = (head.project / "request.json").read_bytes()
    version = httpx.post(url, content=request, timeout=60).json()["model_version"]
    end(head.processes[-1])
    with pytest.raises(httpx.HTTPError):
        httpx.post(url, content=request, timeout=5)
    head.start()
    ran = run_process(head.home, "restore", "--address", f"127.0.0.1:{head.gcs}", env=env)
    assert ran.code == 0, ran.stderr
    assert f"demo version {version} answers at http://127.0.0.1:{head.port} again, after " in ran.stderr
    assert httpx.post(url, content=request, timeout=60).json()["model_version"] == version


def test_a_study_that_never_got_a_worker_for_its_money_ends_its_job_with_5(head: Head) -> None:
    hog = "@ray.remote\nclass Hog:\n    def has_it(self): return True\n"
    # What is served holds a part of them.
    free = "free = ray.available_resources()['CPU']\n"
    hold = "hog = Hog.options(name='hog', lifetime='detached', num_cpus=free).remote()\nray.get(hog.has_it.remote())"
    on_head(head, f"{hog}{free}{hold}")
    try:
        job = submit(head, "tune", "--set", "tune.budget.minutes=0.36")
    finally:
        on_head(head, "ray.kill(ray.get_actor('hog'))")
    assert (job.submitted.code, job.status) == (5, "FAILED")
    assert "was spent before any trial gave a score; raise it." in job.log
