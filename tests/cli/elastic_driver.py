"""A program that runs one study on the cluster of RAY_ADDRESS, with nodes that it asks for: `elastic_driver.py FOLDER`.

Three trials begin at once on three nodes; the best of them goes on, and the others have no more to do.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from mlcluster.cli.node_accounts import node_accounts
from mlcluster.cli.node_watch import watched_nodes
from mlcluster.cli.workspace import RunFolder
from mlcluster.cluster import NodePrices
from mlcluster.cost import PriceBook
from mlcluster.train import Segment, TrialReport
from mlcluster.tune.releases import ElasticCluster, Releases
from tests.tune.studies import open_study, report_of, synthetic_plan

NUM_NODES = 3
FIRST_SECONDS, SECOND_SECONDS = 1.0, 10.0


@dataclass(frozen=True)
class SlowTrainer:
    """What goes on takes longer than what begins."""

    def __call__(self, segment: Segment) -> TrialReport:
        seconds = SECOND_SECONDS if segment.start_units else FIRST_SECONDS
        time.sleep(seconds)
        return report_of(segment, seconds=seconds)


def main(folder: Path) -> None:
    import ray

    from mlcluster.cluster.ray_autoscaling import can_resize, let_go, wait_for_nodes
    from mlcluster.tune.ray_study import run_study_on_ray

    ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    assert can_resize(["head", "cpu-spot"])
    assert not can_resize(["of another file"])
    wait_for_nodes([{"CPU": 1.0}] * NUM_NODES, timeout_seconds=60, say=lambda _: None)
    run = RunFolder(path=folder)
    plan = synthetic_plan(num_slots=NUM_NODES, max_trials=NUM_NODES, usd_per_second=3e-4, seconds=200.0)
    with watched_nodes(run, NodePrices(book=PriceBook(cpu_usd_per_hour=0.36, gpu_usd_per_hour=1.0))) as nodes:
        study, ledger = open_study(plan, folder, cap_usd=1.0, clock=time.time)
        elastic = ElasticCluster(let_go=let_go)
        result = run_study_on_ray(
            study,
            SlowTrainer(),
            folder=folder / "ray",
            progress=lambda _: None,
            nodes=Releases(elastic, nodes),
        )
        ledger.close()
    units = {trial.trial_id: trial.units for trial in result.trials.values()}
    found = {"units": units, "usd": result.usd, "seconds": result.seconds, "nodes": node_accounts(run)}
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
