"""Requests at a steady rate, whatever happens to the server: each on a connection of its own, in a process of its own.

    python -m fault_bench.load URL BODY_FILE PER_SECOND

It goes on until its standard input is closed, then writes one line of JSON for each request.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

TIMEOUT_SECONDS = 90


@dataclass(frozen=True, kw_only=True)
class Answer:
    """To one request; `status` is 0 where there was none."""

    sent_at: float
    """Seconds of the clock `time.time`."""
    seconds: float
    status: int

    @property
    def is_lost(self) -> bool:
        return self.status != 200


class Load:
    """A running load."""

    def __init__(self, url: str, body: Path, *, per_second: float) -> None:
        command = [sys.executable, "-m", "fault_bench.load", url, str(body), str(per_second)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
        )

    def end(self) -> list[Answer]:
        """Sends nothing more; the answers, in the order in which they came."""
        output, _ = self._process.communicate()
        return [Answer(**json.loads(line)) for line in output.splitlines()]


async def ask_until(ended: asyncio.Event, url: str, body: bytes, per_second: float) -> list[Answer]:
    answers: list[Answer] = []
    limits = httpx.Limits(max_keepalive_connections=0)

    async def one() -> None:
        sent_at, started, status = time.time(), time.perf_counter(), 0
        try:
            status = (await client.post(url, content=body, headers={"content-type": "application/json"})).status_code
        except httpx.HTTPError as error:
            sys.stderr.write(f"{error!r}\n")
        answers.append(Answer(sent_at=sent_at, seconds=time.perf_counter() - started, status=status))

    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, limits=limits) as client, asyncio.TaskGroup() as group:
        due = time.monotonic()
        while not ended.is_set():
            group.create_task(one())
            due += 1 / per_second
            await asyncio.sleep(max(0.0, due - time.monotonic()))
    return answers


async def main(url: str, body: str, per_second: str) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
    for answer in await ask_until(ended, url, Path(body).read_bytes(), float(per_second)):
        sys.stdout.write(json.dumps(vars(answer)) + "\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
