"""What a cluster's losses cost a study that runs on it and a model that it serves: a table, in seconds and requests.

    sudo .venv/bin/python scripts/bench_cluster_losses.py [--minutes 1.5] [--only TEXT] [--out losses.json]

On this box: a head and two workers as namespaces (tests/cluster/machines.py), `ray up` with cluster-configs/local.yaml.
For each loss a search of so many minutes is submitted as a job, and five requests a second go to the served model.
Needs root, iproute2, openssh-server and rsync.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.cluster.local_cluster import LocalCluster, last_lines
from tests.cluster.losses import LESS, LOSSES, STUDY, TAKES_THE_JOB, Requests, RunningStudy, account_of, details, repair
from tests.cluster.machines import running_machines, why_not

WARM_REPORTS = 20
JOIN_SECONDS = 240


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.5, help="of each search")
    parser.add_argument("--only", default="", help="losses with this in their name")
    parser.add_argument("--out", type=Path, help="the rows, as JSON")
    given = parser.parse_args()
    reason = why_not()
    if reason is not None:
        sys.exit(reason)
    folder = Path(tempfile.mkdtemp(prefix="mlc-"))
    rows = []
    try:
        with running_machines(folder, count=3) as machines:
            cluster = LocalCluster(machines, edits=LESS)
            bring_up(cluster)
            for number, loss in enumerate(name for name in LOSSES if given.only in name):
                rows.append(one_loss(cluster, loss, name=f"loss-{number}", minutes=given.minutes))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if given.out is not None:
        given.out.write_text(json.dumps(rows, indent=1))
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")


def bring_up(cluster: LocalCluster) -> None:
    cluster.write_file()
    for words in (("mlcluster", "key", "token"), ("mlcluster", "init", "demo")):
        assert cluster.call(*words).code == 0
    up = cluster.up()
    assert up.code == 0, last_lines(up)


def one_loss(cluster: LocalCluster, loss: str, *, name: str, minutes: float) -> dict[str, Any]:
    """The row of one loss, on a whole cluster that serves."""
    with cluster.tunnels():
        cluster.wait_until(lambda: cluster.num_alive() == 3, seconds=JOIN_SECONDS)
        deployed = cluster.call("mlcluster", "submit", "deploy", *STUDY, "--set", "tune.worth.usd_per_point=0.0002",
                                "--", "--name", "served", folder=cluster.home / "demo")  # fmt: skip
        assert deployed.code in (0, 4), last_lines(deployed)
        url = f"http://127.0.0.1:{cluster.endpoint}/v2/models/demo/infer"
        requests = Requests(url, (cluster.home / "demo" / "request.json").read_bytes())
        study = RunningStudy(cluster, name, minutes)
        study.submit()
        cluster.wait_until(lambda: study.count("report") >= WARM_REPORTS, seconds=120)
        with requests.going_on():
            lost_at = time.time()
            LOSSES[loss](cluster)
            code = study.wait(60 * minutes + 180)
    again, answered = None, None
    if loss in TAKES_THE_JOB:
        again, answered = resubmit(cluster, loss, study, requests)
    else:
        assert code in (0, 4), study.log()[-3000:]
        repair(cluster, loss)
    account = account_of(study, lost_at)
    resumed = {} if again is None else {"up again, s": f"{again:.0f}"}
    failed = f"{requests.num_failed} of {len(requests.answers)}"
    return {
        "lost": loss,
        **details(account),
        "requests failed": failed,
        "over, s": f"{requests.seconds_without:.1f}",
        **{"up again, s": "-", **resumed},
        "answers again, s": "-" if answered is None else f"{answered:.0f}",
    }


def resubmit(cluster: LocalCluster, loss: str, study: RunningStudy, requests: Requests) -> tuple[float, float | None]:
    """Submits the job again under its name; the seconds until a trial of it has reported again.

    And those until the endpoint answers, where it was lost too: nobody deploys it.
    """
    started = time.monotonic()
    repair(cluster, loss)
    with cluster.tunnels(), ThreadPoolExecutor() as pool:
        url = f"http://127.0.0.1:{cluster.endpoint}/v2/models/demo/infer"
        answers = pool.submit(seconds_until_it_answers, url, requests.body, started) if "head" in loss else None
        before = study.count("report")
        study.submit()
        cluster.wait_until(lambda: study.count("report") > before, seconds=180)
        seconds = time.monotonic() - started
        assert study.wait(60 * study.minutes + 120) in (0, 4), study.log()[-3000:]
        return seconds, None if answers is None else answers.result()


def seconds_until_it_answers(url: str, body: bytes, started: float) -> float:
    """Asks until the model answers, for four minutes at most."""
    while time.monotonic() < started + 240:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.post(url, content=body, timeout=5).status_code == 200:
                return time.monotonic() - started
        time.sleep(0.25)
    raise AssertionError("the endpoint has not come back")


if __name__ == "__main__":
    main()
