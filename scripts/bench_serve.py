"""One replica's HTTP server against others around the same exported model, on the same requests in one run.

    .venv/bin/python scripts/bench_serve.py [--models mlp,boosting,raw,wide] \\
        [--servers bare,fastapi,ours,ours-no-statistics,ours-no-records,ours-front,...] \\
        [--peer bentoml=PYTHON --peer mlserver=PYTHON] \\
        [--connections 1,8,64] [--rows 1,32] [--forms json,binary,rows,matrix] [--seconds 3] [--repeats 3] [--seed 0] \\
        [--out serve.json]

Needs `wrk` (Debian package `wrk`). Each server is a process of its own; its answers are held against the batch path
before it is loaded. CPU-microseconds a request are of the server's whole tree of processes. Servers take turns within
each repeat, and the table shows medians, with the ratio of CPU to `bare` and its smallest and largest over repeats.
`bare` is uvicorn, orjson and ONNX Runtime with no checks at all; `ours` is a replica's own server, `ours-front` that
one behind the front door (HAProxy), which asks for a key and counts by it; the others are ray-serve,
ray-serve-haproxy, mlflow, bentoml and mlserver. The last two pin packages that do not go with ours: each is run by an
interpreter of its own, of an environment made by

    python -m venv PEER && PEER/bin/pip install bentoml
    python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > PEER/lib/pythonX.Y/site-packages/zz_behind.pth

where the second line is said with our environment's python, whose packages are then found behind the peer's.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench_files import provenance, say, write_document
from serve_bench.process import FORMS_OF, PEERS, SERVERS, NotStartedError, Server, run, served

BASELINE = "bare"
MODELS = ("mlp", "boosting", "raw", "wide")
FORMS = ("json", "binary", "rows", "matrix")
PACKAGES = ("mlcluster", "uvicorn", "httptools", "uvloop", "orjson", "onnxruntime", "fastapi", "numpy")


def main() -> int:
    given = arguments()
    if given.child:
        run(given.child, given.bundle, given.port, given.scratch)
        return 0
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing; install the Debian package `wrk`")
    runs: list[dict[str, Any]] = []
    for name in given.models:
        with tempfile.TemporaryDirectory() as scratch:
            for one in compare(name, given, Path(scratch)):
                runs.append(one)
                say(line(one))
                if given.out:
                    write_document(given.out, {"provenance": provenance("bench_serve.py", PACKAGES)}, runs)
    print("\n".join(table(runs)))
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=some_of(MODELS), default="mlp,boosting,raw")
    parser.add_argument("--servers", type=some_of((*SERVERS, *PEERS)), default=",".join(SERVERS))
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON", help="who runs a peer")
    parser.add_argument("--forms", type=some_of(FORMS), default="json,binary,rows")
    parser.add_argument("--connections", type=whole_numbers, default="1,8,64")
    parser.add_argument("--rows", type=whole_numbers, default="1,32")
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write all runs to this JSON file, after each")
    parser.add_argument("--child", choices=(*SERVERS, *PEERS), help=argparse.SUPPRESS)
    parser.add_argument("--bundle", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def some_of(known: Sequence[str]) -> Any:
    def parse(text: str) -> tuple[str, ...]:
        unknown = [word for word in text.split(",") if word not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is unknown; use some of {', '.join(known)}")
        return tuple(text.split(","))

    return parse


def whole_numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def compare(name: str, given: argparse.Namespace, scratch: Path) -> Iterator[dict[str, Any]]:
    """All servers around one model, on each form, number of rows and number of connections."""
    from serve_bench.load import ask, load
    from serve_bench.models import train
    from serve_bench.requests import BINARY_FORMS, question

    model = train(name, seed=given.seed)
    model.bundle.write(scratch / "bundle")
    # Text has no form of bytes that a server by hand would take, and nulls have none at all.
    forms = [form for form in given.forms if form not in BINARY_FORMS or not model.has_text]
    with ExitStack() as stack:
        servers = dict(start(given, scratch, stack))
        for form in forms:
            for num_rows in given.rows:
                asked = question(model, form, num_rows)
                able = {name: server for name, server in servers.items() if form in FORMS_OF.get(name, FORMS)}
                for server in able.values():
                    ask(server, asked)
                    load(server, asked, connections=8, seconds=1, scratch=scratch)  # what is slow once is not counted
                for connections in given.connections:
                    for repeat in range(given.repeats):
                        for server, started in able.items():
                            found = load(
                                started, asked, connections=connections, seconds=given.seconds, scratch=scratch
                            )
                            case = {"model": name, "form": form, "rows": num_rows, "connections": connections}
                            yield {**case, "server": server, "repeat": repeat, **asdict(found)}


def start(given: argparse.Namespace, scratch: Path, stack: ExitStack) -> Iterator[tuple[str, Server]]:
    """Each server that starts; one that does not is told with its reason, and left out."""
    pythons = dict(peer.split("=", 1) for peer in given.peer)
    for name in given.servers:
        if name in PEERS and name not in pythons:
            say(f"{name} is left out: say --peer {name}=PYTHON, an interpreter that has it")
            continue
        python = pythons.get(name, sys.executable)
        try:
            yield name, stack.enter_context(served(Path(__file__), name, scratch / "bundle", scratch, python=python))
        except NotStartedError as error:
            say(f"{name} is left out: {error}")


def line(one: dict[str, Any]) -> str:
    return (
        f"{one['model']} {one['form']} of {one['rows']}, {one['connections']} connections, {one['server']}: "
        f"{one['cpu_us']:.0f} CPU-us, {one['requests_per_second']:.0f}/s, p50 {one['p50_us'] / 1000:.2f} ms"
    )


def table(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Medians over repeats; ratios are of the baseline's CPU to the server's: 1 is as fast, less is slower."""
    lines = [
        "| model | form | rows | connections | server | CPU-µs | as fast as bare | requests/s | p50 ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    cases = dict.fromkeys((one["model"], one["form"], one["rows"], one["connections"]) for one in runs)
    for case in cases:
        here = [one for one in runs if (one["model"], one["form"], one["rows"], one["connections"]) == case]
        baseline = {one["repeat"]: one["cpu_us"] for one in here if one["server"] == BASELINE}
        for server in dict.fromkeys(one["server"] for one in here):
            own = [one for one in here if one["server"] == server]
            cpu, rate, p50 = (
                statistics.median(one[key] for one in own) for key in ("cpu_us", "requests_per_second", "p50_us")
            )
            ratios = [baseline[one["repeat"]] / one["cpu_us"] for one in own if one["repeat"] in baseline]
            shown = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else "-"
            words = [*map(str, case), server, f"{cpu:.0f}", shown, f"{rate:.0f}", f"{p50 / 1000:.2f}"]
            lines.append(f"| {' | '.join(words)} |")
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
