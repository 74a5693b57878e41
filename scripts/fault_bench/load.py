"""The load of the tests in a process of its own, which what happens in the one that does the harm does not slow down.

    python -m fault_bench.load URL BODY_FILE PER_SECOND once|again

It goes on until its standard input is closed, then writes one line of JSON for each request.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from tests.serve.load import CLIENTS, Answer, ask_steadily


class LoadProcess:
    """A running load; its `client` is one of `CLIENTS`, by name."""

    def __init__(self, url: str, body: Path, *, per_second: float, client: str = "once") -> None:
        command = [sys.executable, "-m", "fault_bench.load", url, str(body), str(per_second), client]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
        )

    def end(self) -> list[Answer]:
        """Sends nothing more; the answers, in the order in which they came."""
        output, _ = self._process.communicate()
        return [Answer(**json.loads(line)) for line in output.splitlines()]


async def main(url: str, body: str, per_second: str, client: str) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
    answers: list[Answer] = []
    async with CLIENTS[client](url, Path(body).read_bytes()) as ask:
        await ask_steadily(ask, per_second=float(per_second), is_over=ended.is_set, answers=answers)
    for answer in answers:
        sys.stdout.write(json.dumps(asdict(answer)) + "\n")
        if answer.is_lost:
            sys.stderr.write(f"{answer.status} {answer.text[:200]}\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
