"""What a replica counts, for Prometheus to read.

Counts are plain numbers, put into Prometheus's words when they are read: its own counters cost a request more than
reading its JSON does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Lock

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BOUNDS = (*map(str, _BUCKETS_SECONDS), "+Inf")
_LABELS = ("replica", "model", "version")
CONTENT_TYPE = CONTENT_TYPE_LATEST


@dataclass(slots=True)
class _Latency:
    """Requests of one route by the bucket that their seconds fall into, and the sum of these."""

    counts: list[int] = field(default_factory=lambda: [0] * len(_BOUNDS))
    seconds: float = 0.0

    def buckets(self) -> list[tuple[str, float]]:
        """Counts up to each bound, as Prometheus adds them up."""
        total, found = 0, []
        for bound, count in zip(_BOUNDS, self.counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Replica:
    """Who counts."""

    name: str = ""
    usd_per_hour: float | None = None
    """None where its price is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gauges:
    """What is asked for when the metrics are read."""

    num_in_flight: Callable[[], int]
    num_lost: Callable[[], int]
    """Records that never reached the disk."""


class ServingMetrics(Collector):
    """Counters of one app: two apps in one process do not mix. For one event loop.

    Every series bears the replica, since a scrape through a proxy reaches one replica at a time, and the model with its
    version, so that an update shows.
    """

    def __init__(self, *, model: str, version: str, replica: Replica, gauges: Gauges) -> None:
        self._labels = (replica.name, model, version)
        self._usd_per_hour = replica.usd_per_hour
        self._gauges = gauges
        self._requests: dict[tuple[str, int], int] = {}
        self._latencies: dict[str, _Latency] = {}
        self._num_rows = 0
        self._lock = Lock()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """One answered request; `route` is a template, so that paths made up by clients make no series."""
        self._requests[route, status] = self._requests.get((route, status), 0) + 1
        latency = self._latencies.get(route)
        if latency is None:
            latency = self._latencies[route] = _Latency()
        latency.counts[bisect_left(_BUCKETS_SECONDS, seconds)] += 1
        latency.seconds += seconds

    def count_rows(self, num_rows: int) -> None:
        """Rows of one answered request."""
        with self._lock:  # a large request is answered beside the event loop
            self._num_rows += num_rows

    def collect(self) -> Iterator[Metric]:
        """What Prometheus asks for."""
        requests = CounterMetricFamily("mlcluster_requests", "Requests answered.", labels=(*_LABELS, "route", "status"))
        for (route, status), count in self._requests.items():
            requests.add_metric((*self._labels, route, str(status)), count)
        latencies = HistogramMetricFamily(
            "mlcluster_request_seconds", "Time from a request's headers to its answer.", labels=(*_LABELS, "route")
        )
        for route, latency in self._latencies.items():
            latencies.add_metric((*self._labels, route), latency.buckets(), latency.seconds)
        yield from (requests, latencies)
        yield self._one(CounterMetricFamily, "mlcluster_rows", "Rows predicted.", self._num_rows)
        lost = "Prediction records that never reached the disk."
        yield self._one(CounterMetricFamily, "mlcluster_records_lost", lost, self._gauges.num_lost())
        in_flight = self._gauges.num_in_flight()
        yield self._one(GaugeMetricFamily, "mlcluster_requests_in_flight", "Requests being answered.", in_flight)
        yield self._one(GaugeMetricFamily, "mlcluster_model_info", "The model that answers.", 1)
        if self._usd_per_hour is not None:
            what = "Dollars that this replica costs an hour, at the project's prices."
            yield self._one(GaugeMetricFamily, "mlcluster_replica_usd_per_hour", what, self._usd_per_hour)

    def _one(
        self, family: type[CounterMetricFamily | GaugeMetricFamily], name: str, what: str, value: float
    ) -> CounterMetricFamily | GaugeMetricFamily:
        found = family(name, what, labels=_LABELS)
        found.add_metric(self._labels, value)
        return found

    def exposition(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self._registry)
