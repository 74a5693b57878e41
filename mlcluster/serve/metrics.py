"""What a replica counts, for Prometheus to read."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_LATENCY_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class ServingMetrics:
    """Counters of one app, in a registry of its own: two apps in one process do not mix.

    Every series bears the replica, since a scrape through a proxy reaches one replica at a time.
    """

    def __init__(self, *, model: str, version: str, replica: str, num_in_flight: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        base = ("replica",)
        self._replica = replica
        self._requests = Counter(
            "mlcluster_requests", "Requests answered.", (*base, "route", "status"), registry=self.registry
        )
        self._latency = Histogram(
            "mlcluster_request_seconds",
            "Time from a request's headers to its answer.",
            (*base, "route"),
            buckets=_LATENCY_BUCKETS_SECONDS,
            registry=self.registry,
        )
        rows = Counter("mlcluster_rows", "Rows predicted.", base, registry=self.registry)
        in_flight = Gauge("mlcluster_requests_in_flight", "Requests being answered.", base, registry=self.registry)
        info = Gauge(
            "mlcluster_model_info", "The model that answers.", (*base, "model", "version"), registry=self.registry
        )
        info.labels(replica, model, version).set(1)
        self._rows = rows.labels(replica)
        in_flight.labels(replica).set_function(num_in_flight)
        self._of: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """One answered request; `route` is a template, so that paths made up by clients make no series."""
        found = self._of.get((route, status))
        if found is None:
            count = self._requests.labels(self._replica, route, str(status))
            found = self._of[route, status] = (count, self._latency.labels(self._replica, route))
        found[0].inc()
        found[1].observe(seconds)

    def count_rows(self, num_rows: int) -> None:
        """Rows of one answered request."""
        self._rows.inc(num_rows)

    def exposition(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
