"""What the applications of one process share: where answers are written down, and what is counted."""

from __future__ import annotations

from mlcluster.serve.answering import Answering
from mlcluster.serve.feedback import FeedbackLog
from mlcluster.serve.live_statistics import StatisticsBoard
from mlcluster.serve.metrics import Gauges, MetricsBoard, Replica
from mlcluster.serve.predictor import Predictor
from mlcluster.serve.reception import InFlight, RequestLimits
from mlcluster.serve.records.answered import RecordSink


class AppContext:
    """What the applications of one process share; see `http_app.build_app`."""

    def __init__(
        self,
        record: RecordSink,
        *,
        limits: RequestLimits | None = None,
        feedback: FeedbackLog | None = None,
        replica: Replica | None = None,
        statistics: StatisticsBoard | None = None,
        echo_request_id: bool = True,
    ) -> None:
        self.record = record
        self._statistics = statistics
        self.feedback = feedback
        self.echo_request_id = echo_request_id
        self.in_flight = in_flight = InFlight(limits or RequestLimits())
        gauges = Gauges(num_in_flight=lambda: in_flight.count, num_lost=lambda: record.num_lost)
        self.board = MetricsBoard(replica or Replica(), gauges)

    def answering(self, predictor: Predictor) -> Answering:
        """The answers of one of its models."""
        metrics = self.board.of(predictor.name, predictor.version)
        if self._statistics is not None:
            metrics.statistics = self._statistics.of(predictor)
        return Answering(predictor, self.record, metrics)
