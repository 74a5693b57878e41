"""A worker's raylet and then the driver are killed under a search: the same job, sent again, ends it and books it all.

The other losses are measured by scripts/bench_cluster_losses.py, which holds each to the same.
"""

from __future__ import annotations

import signal
import time

import pytest

from tests.cluster.local_cluster import LocalCluster
from tests.cluster.losses import RunningStudy, account_of, lose_driver, lose_raylet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("default")]

WARM_REPORTS = 10


def test_a_search_ends_as_it_should_though_a_worker_and_its_driver_are_killed(cluster: LocalCluster) -> None:
    study = RunningStudy(cluster, "unlucky", minutes=0.8)
    study.submit()
    cluster.wait_until(lambda: study.count("report") >= WARM_REPORTS, seconds=120)
    lost_at = time.time()
    lose_raylet(cluster)
    cluster.wait_until(lambda: study.count("lost") >= 1, seconds=60)
    reports = study.count("report")
    cluster.wait_until(lambda: study.count("report") > reports, seconds=30)
    lose_driver(cluster)
    assert study.wait(60) == 128 + signal.SIGKILL
    study.submit()
    assert study.wait(180) in (0, 4), study.log()[-3000:]
    account = account_of(study, lost_at)
    assert (account.num_lost >= 2, account.lost_usd > 0) == (True, True)
    assert study.count("begin") == 2
    assert "going on with" in study.log()
    cluster.wait_until(lambda: cluster.num_alive() == 3, seconds=120)
