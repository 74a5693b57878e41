"""While a run goes on on a cluster: a look at its nodes every few seconds, written to the run's node log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mlcluster.cli.ray_local import is_on_cluster
from mlcluster.cli.workspace import RunFolder
from mlcluster.cluster import NodePrices
from mlcluster.cost import NodeLog, NoNodeLog
from mlcluster.cost.node_log import LOOK_SECONDS

log = logging.getLogger(__name__)


def nodes_usd_per_second(prices: NodePrices) -> float:
    """Of all machines of the connected cluster whose price is known; 0 on a local Ray."""
    if not is_on_cluster():
        return 0.0
    from mlcluster.cluster.ray_nodes import NodeRecord

    present = [prices.node(facts) for facts in NodeRecord().look() if facts.released_at is None]
    return sum((node.usd_per_hour or 0.0) / 3600 for node in present)


@contextmanager
def watched_nodes(run: RunFolder, prices: NodePrices) -> Iterator[NoNodeLog]:
    """The run's node log, kept up by a thread until the end; on a local Ray there is none."""
    if not is_on_cluster():
        yield NoNodeLog()
        return
    from mlcluster.cluster.ray_nodes import NodeRecord

    nodes, record = NodeLog(run.node_log_path(), clock=time.time), NodeRecord()

    def look() -> None:
        try:
            nodes.see([prices.node(facts) for facts in record.look()])
        except Exception:  # the bill is poorer by a look; the run goes on
            log.warning("could not look at the cluster's nodes", exc_info=True)

    def watch() -> None:
        while not has_ended.wait(LOOK_SECONDS):
            look()

    has_ended = threading.Event()
    look()
    watcher = threading.Thread(target=watch, name="node-watch", daemon=True)
    watcher.start()
    try:
        yield nodes
    finally:
        has_ended.set()
        watcher.join(timeout=LOOK_SECONDS)
        look()
        nodes.close()
