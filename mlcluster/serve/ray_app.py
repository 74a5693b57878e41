"""The application on Ray Serve: replicas that load the bundle from bytes, and how many of them there are.

Each replica answers twice: at a socket of its own, where the front sends its requests, and through Ray Serve, for those
that came while no replica was there. Ray Serve starts, watches, adds and ends replicas.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy
from starlette.types import ASGIApp

from mlcluster.registry import Bundle
from mlcluster.serve.app_context import AppContext
from mlcluster.serve.feedback import FeedbackLog
from mlcluster.serve.front.loads import SOME_LOAD
from mlcluster.serve.grpc.server import GrpcServer
from mlcluster.serve.http_app import app_within, other_app_within
from mlcluster.serve.live_statistics import StatisticsBoard
from mlcluster.serve.many_models import OtherApps, no_others
from mlcluster.serve.memory import settle_memory
from mlcluster.serve.metrics import Replica
from mlcluster.serve.other_models import ServedModel, ServedModels
from mlcluster.serve.plan import ReplicaPlan, ServePlan
from mlcluster.serve.predictor import Predictor
from mlcluster.serve.ray_front import FrontBeat
from mlcluster.serve.reception import RequestLimits
from mlcluster.serve.records.answered import NoRecords, RecordSink
from mlcluster.serve.records.prediction_log import PredictionLog
from mlcluster.serve.replica_server import Drained, ReplicaServer
from mlcluster.serve.short_way.path import FastPath

_DEPLOYMENT = "model"
_LOAD_ATTEMPTS = 3
_HEALTH_SECONDS = 1.0
_LOOK_BACK_SECONDS = 4.0
_REPORT_SECONDS = 1.0
"""Between two reports of a replica's load; Serve's default of 10 s is its answer to many more replicas than ours."""
_LET_GO_SECONDS = 0.3
"""For requests that were on their way when the front was told to send no more."""
_FRONT_LOAD = "front_in_flight"


class ModelReplica:
    """One replica: a predictor and its application, built where it runs."""

    def __init__(self, plan: ReplicaPlan, endpoint: str | None) -> None:
        _bind_replica_port_to_loopback()
        self._plan = plan
        self._endpoint = endpoint
        self._server: ReplicaServer | None = None
        self._grpc: GrpcServer | None = None
        self._beat: FrontBeat | None = None
        self._predictor = Predictor(Bundle.from_files(plan.bundle_files))
        self._predictor.warm_up()
        self._others = no_others(self._predictor.name, self._predictor.version)
        self._opening: asyncio.Task[None] | None = None
        self._records: RecordSink = NoRecords()
        self._feedback: FeedbackLog | None = None
        self._statistics: StatisticsBoard | None = None
        if plan.records_folder is not None:
            folder = Path(plan.records_folder)
            if plan.statistics_seconds is not None:
                self._statistics = StatisticsBoard(window_seconds=plan.statistics_seconds)
            watch = None if self._statistics is None else self._statistics.add
            self._records = PredictionLog(folder, max_bytes=plan.records_bytes, watch=watch)
            self._feedback = FeedbackLog(folder)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """What Serve runs for its requests; the same application answers at a socket of its own."""
        context = serve.get_replica_context()
        name = context.replica_id.unique_id
        if self._endpoint is not None:
            self._beat = FrontBeat(self._endpoint, app=context.app_name, replica_id=name)
        app = self.build(Replica(name=name, usd_per_hour=self._plan.usd_per_hour))
        beat = self._beat
        if beat is None:
            return app
        self._opening = asyncio.get_running_loop().create_task(self._open(app, beat))
        return Drained(app, self._drain)

    async def _open(self, app: FastPath, beat: FrontBeat) -> None:
        """Tells the front of this replica when nothing that it is asked first has to be loaded then."""
        settle_memory()
        await self._others.warm()
        secret, host = await beat.replica_secret(), ray.util.get_node_ip_address()
        server = self._server = ReplicaServer(app, host=host, front_secret=secret)
        server.start()
        if self._plan.speaks_grpc:
            self._grpc = GrpcServer(app.by_columns, self._others, host=host, front_secret=secret)
            await self._grpc.start()
        beat.start(server.address, grpc=None if self._grpc is None else self._grpc.address)

    def build(self, replica: Replica) -> FastPath:
        """The application; the front writes x-request-id and traceparent."""
        plan = self._plan
        context = AppContext(
            self._records,
            feedback=self._feedback,
            limits=RequestLimits(max_in_flight=plan.max_ongoing, timeout_seconds=plan.timeout_seconds),
            replica=replica,
            statistics=self._statistics,
            echo_request_id=False,
        )
        own = ServedModel(name=self._predictor.name, version=self._predictor.version, aliases=plan.aliases)
        self._others = OtherApps(
            ServedModels(own, plan.others),
            fetch=self._fetch,
            build=partial(other_app_within, context),
            max_bytes=plan.others_bytes,
        )
        return app_within(context, self._predictor, self._others)

    async def _fetch(self, digest: str) -> Mapping[str, bytes]:
        assert self._beat is not None, "what stands behind no front has no other models"
        files: Mapping[str, bytes] = await self._beat.ask("bundle", digest)
        return files

    def record_autoscaling_stats(self) -> Mapping[str, float]:
        """What Serve asks each replica for."""
        return {_FRONT_LOAD: 0.0 if self._beat is None else self._beat.num_in_flight}

    def check_health(self) -> None:
        """What Serve asks each replica for; one that raises is replaced."""
        if self._opening is not None and self._opening.done():
            self._opening.result()
        if self._server is not None and not self._server.is_running:
            raise RuntimeError("the replica's own server has ended")

    async def _drain(self) -> None:
        assert self._beat is not None
        assert self._opening is not None
        self._opening.cancel()
        await self._beat.end()
        await asyncio.sleep(_LET_GO_SECONDS)
        grace_seconds = self._plan.timeout_seconds
        closing = [one.close(grace_seconds=grace_seconds) for one in (self._server, self._grpc) if one is not None]
        await asyncio.gather(*closing)
        await self._beat.forget()


def wanted_replicas(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """Serve's autoscaling policy: requests in flight, those that came past Serve included, over the target of each.

    A replica that answers within microseconds is seldom met at work: any load above zero keeps one. One that is
    starting, or has not reported yet, is wanted until it does.
    """
    by_replica = (context.aggregated_metrics or {}).get(_FRONT_LOAD, {})
    unheard = max(0, context.target_num_replicas - len(by_replica))
    in_flight = sum(by_replica.values()) + unheard * SOME_LOAD + float(context.total_num_requests)
    return in_flight / context.config.get_target_ongoing_requests(), {}


def _bind_replica_port_to_loopback() -> None:
    """Binds the port that Serve opens in each replica, for calls from other deployments, to loopback.

    Serve opens it on every address, without a token, and unpickles what comes in; there are no other deployments, and
    its proxy calls replicas as actors. There is no setting for it, so this reaches into Ray: look at it again with each
    version.
    """
    from ray._common.tls_utils import add_port_to_grpc_server
    from ray.serve._private import replica

    replica.add_port_to_grpc_server = lambda server, _address: add_port_to_grpc_server(server, "127.0.0.1:0")


def build_application(plan: ServePlan, replica_type: type[ModelReplica] = ModelReplica, num_at_first: int = 1) -> Any:
    """The Serve application of a plan, with so many replicas at first; nothing is started."""
    return _deployment(plan, replica_type, num_at_first).bind(plan.replica, plan.name)


def build_without_front(plan: ServePlan) -> Any:
    """The same where something else stands before Ray Serve, such as KubeRay's service: replicas answer through it."""
    return _deployment(plan, ModelReplica, 1).bind(plan.replica, None)


def _deployment(plan: ServePlan, replica_type: type[ModelReplica], num_at_first: int) -> Any:
    autoscaling = AutoscalingConfig(
        min_replicas=plan.min_replicas,
        # One is warm from the start: a deployment that nobody has called yet would otherwise never be loaded.
        initial_replicas=min(plan.max_replicas, max(1, plan.min_replicas, num_at_first)),
        max_replicas=plan.max_replicas,
        target_ongoing_requests=plan.target_ongoing,
        upscale_delay_s=plan.upscale_delay_seconds,
        downscale_delay_s=plan.downscale_delay_seconds,
        look_back_period_s=_LOOK_BACK_SECONDS,
        metrics_interval_s=_REPORT_SECONDS,
        policy=AutoscalingPolicy(policy_function=wanted_replicas),
    )
    return serve.deployment(
        serve.ingress()(replica_type),
        name=_DEPLOYMENT,
        autoscaling_config=autoscaling,
        # Room above the replica's own limit, so that it is the replica that answers 429, with Retry-After.
        max_ongoing_requests=plan.max_ongoing + max(8, plan.max_ongoing // 4),
        max_constructor_retry_count=_LOAD_ATTEMPTS,
        # Serve finds out in this way that a replica has died.
        health_check_period_s=_HEALTH_SECONDS,
        ray_actor_options={"num_cpus": plan.cpus_per_replica},
        graceful_shutdown_wait_loop_s=_LET_GO_SECONDS,
        graceful_shutdown_timeout_s=plan.request_timeout_seconds,
        logging_config={"enable_access_log": False},
    )
