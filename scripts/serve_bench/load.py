"""Load by `wrk` for some seconds: requests a second, their median time, and the server's CPU-microseconds for each."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from serve_bench.process import Server
from serve_bench.requests import Question, check

_SCRIPT = """
wrk.method = "POST"
local file = io.open({body}, "rb")
wrk.body = file:read("*a")
file:close()
{headers}
done = function(summary, latency, requests)
  local bad = summary.errors.status + summary.errors.read + summary.errors.write + summary.errors.timeout
  print(string.format("RESULT %d %d %.1f %d", summary.requests, summary.duration, latency:percentile(50), bad))
end
"""
_RESULT = re.compile(r"^RESULT (\d+) (\d+) ([0-9.]+) (\d+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What came of one run."""

    requests_per_second: float
    p50_us: float
    cpu_us: float
    """CPU-microseconds of the server's processes, a request."""


def ask(server: Server, asked: Question) -> None:
    """One request, whose answer must be that of the batch path."""
    url = f"http://127.0.0.1:{server.port}{asked.path}"
    request = urllib.request.Request(url, data=asked.body, headers=asked.headers, method="POST")
    with urllib.request.urlopen(request, timeout=30) as response:
        check(asked, {name.lower(): value for name, value in response.headers.items()}, response.read())


def load(server: Server, asked: Question, *, connections: int, seconds: int, scratch: Path) -> Load:
    """The same request over and over, by `wrk` with one thread."""
    body, script = scratch / "body", scratch / "load.lua"
    body.write_bytes(asked.body)
    headers = "\n".join(f"wrk.headers[{json.dumps(k)}] = {json.dumps(v)}" for k, v in asked.headers.items())
    script.write_text(_SCRIPT.format(body=json.dumps(str(body)), headers=headers))
    url = f"http://127.0.0.1:{server.port}{asked.path}"
    before = server.cpu_seconds
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    burnt = server.cpu_seconds - before
    found = _RESULT.search(done.stdout)
    if found is None or int(found[4]) or not int(found[1]):
        raise SystemExit(f"wrk got errors:\n{done.stdout}\n{done.stderr}")
    count, duration_us = int(found[1]), int(found[2])
    return Load(
        requests_per_second=count / duration_us * 1e6,
        p50_us=float(found[3]),
        cpu_us=burnt / count * 1e6,
    )
