"""How busy each replica is, by the front's counts: what Ray Serve's autoscaler is told.

A replica cannot tell by itself: what it answers within microseconds is never seen to be in flight there, while it
waits in line before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlcluster.serve.front.haproxy_socket import ServerLoad

SOME_LOAD = 0.01
"""Of a replica that had requests, none of which was met in flight: less than one, more than none at all."""


@dataclass(slots=True)
class _Seen:
    num_requests: int
    num_samples: int = 0
    in_flight: float = 0.0
    had_requests: bool = False


class FrontLoads:
    """Samples of each replica's requests in flight, until they are asked for."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def add(self, loads: Mapping[str, ServerLoad], *, num_queued: int) -> None:
        """One sample of each replica by its id; those that wait in the front for any are shared out."""
        share = num_queued / len(loads) if loads else 0.0
        self._seen = {name: seen for name, seen in self._seen.items() if name in loads}
        for name, load in loads.items():
            seen = self._seen.setdefault(name, _Seen(num_requests=load.num_requests))
            seen.num_samples += 1
            seen.in_flight += load.num_in_flight + share
            seen.had_requests |= load.num_requests != seen.num_requests
            seen.num_requests = load.num_requests

    def taken(self, name: str) -> float:
        """The mean requests in flight of a replica since it was last asked for; above zero where it had any."""
        seen = self._seen.get(name)
        if seen is None or not seen.num_samples:
            return 0.0
        self._seen[name] = _Seen(num_requests=seen.num_requests)
        return max(seen.in_flight / seen.num_samples, SOME_LOAD if seen.had_requests else 0.0)
