"""What a replica counts, for Prometheus to read.

Counts are plain numbers, put into Prometheus's words when they are read: its own counters cost a request more than
reading its JSON does.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from mlcluster.serve.live_statistics import LiveStatistics

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


class ServingMetrics:
    """Counters of one model. For one event loop.

    Every series bears the replica, since a scrape through a proxy reaches one replica at a time, and the model with its
    version, so that an update shows.
    """

    def __init__(self, *, model: str, version: str, replica: Replica) -> None:
        self._labels = (replica.name, model, version)
        self._requests: dict[tuple[str, int], int] = {}
        self._latencies: dict[str, _Latency] = {}
        self._num_rows = 0
        self.statistics: LiveStatistics | None = None
        """What the model is asked and answers, where that is watched."""
        self._lock = Lock()

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
        """In Prometheus's words."""
        requests = CounterMetricFamily("mlcluster_requests", "Requests answered.", labels=(*_LABELS, "route", "status"))
        for (route, status), count in self._requests.items():
            requests.add_metric((*self._labels, route, str(status)), count)
        latencies = HistogramMetricFamily(
            "mlcluster_request_seconds", "Time from a request's headers to its answer.", labels=(*_LABELS, "route")
        )
        for route, latency in self._latencies.items():
            latencies.add_metric((*self._labels, route), latency.buckets(), latency.seconds)
        yield from (requests, latencies)
        yield _one(CounterMetricFamily, "mlcluster_rows", "Rows predicted.", self._labels, self._num_rows)
        yield _one(GaugeMetricFamily, "mlcluster_model_info", "The model that answers.", self._labels, 1)
        if self.statistics is not None:
            yield from self.statistics.collect(self._labels, _LABELS, time.time_ns() // 1_000_000)


class MetricsBoard(Collector):
    """What a replica counts: for each of its models, and as a whole under the labels of the first of them."""

    def __init__(self, replica: Replica, gauges: Gauges) -> None:
        self.replica = replica
        self._gauges = gauges
        self._models: dict[tuple[str, str], ServingMetrics] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def of(self, model: str, version: str) -> ServingMetrics:
        """The counters of a model; the same ones where it is loaded again, for counts never go down."""
        key = (model, version)
        if key not in self._models:
            self._models[key] = ServingMetrics(model=model, version=version, replica=self.replica)
        return self._models[key]

    def collect(self) -> Iterator[Metric]:
        """What Prometheus asks for: each name once, with the series of all models."""
        families: dict[str, Metric] = {}
        for metrics in list(self._models.values()):
            for family in metrics.collect():
                if family.name in families:
                    families[family.name].samples += family.samples
                else:
                    families[family.name] = family
        yield from families.values()
        yield from self._of_the_replica()

    def _of_the_replica(self) -> Iterator[Metric]:
        labels = (self.replica.name, *next(iter(self._models), ("", "")))
        lost, in_flight = self._gauges.num_lost(), self._gauges.num_in_flight()
        what = "Prediction records that never reached the disk."
        yield _one(CounterMetricFamily, "mlcluster_records_lost", what, labels, lost)
        yield _one(GaugeMetricFamily, "mlcluster_requests_in_flight", "Requests being answered.", labels, in_flight)
        if self.replica.usd_per_hour is not None:
            what = "Dollars that this replica costs an hour, at the project's prices."
            yield _one(GaugeMetricFamily, "mlcluster_replica_usd_per_hour", what, labels, self.replica.usd_per_hour)

    def exposition(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self._registry)


def _one(
    family: type[CounterMetricFamily | GaugeMetricFamily], name: str, what: str, labels: Sequence[str], value: float
) -> CounterMetricFamily | GaugeMetricFamily:
    found = family(name, what, labels=_LABELS)
    found.add_metric(labels, value)
    return found
