"""The application on Ray Serve: replicas that load the bundle from bytes, and how many of them there are.

Each replica answers twice: at a socket of its own, where the front sends its requests, and through Ray Serve, for those
that came while no replica was there. Ray Serve starts, watches, adds and ends replicas.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy
from starlette.types import ASGIApp

from mlcluster.registry import Bundle
from mlcluster.serve.fast_path import FastPath
from mlcluster.serve.feedback import FeedbackLog
from mlcluster.serve.front_loads import SOME_LOAD
from mlcluster.serve.grpc_server import GrpcServer
from mlcluster.serve.http_app import build_app
from mlcluster.serve.metrics import Replica
from mlcluster.serve.plan import ReplicaPlan, ServePlan
from mlcluster.serve.predictor import Predictor
from mlcluster.serve.ray_front import FrontBeat
from mlcluster.serve.reception import RequestLimits
from mlcluster.serve.records import JsonlRecordSink, NoRecords, RecordSink
from mlcluster.serve.replica_server import Drained, ReplicaServer
from mlcluster.serve.replica_slots import ReplicaSocket

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
        self._records: RecordSink = NoRecords()
        self._feedback: FeedbackLog | None = None
        if plan.records_folder is not None:
            folder = Path(plan.records_folder)
            self._records = JsonlRecordSink(folder, max_bytes=plan.records_bytes)
            self._feedback = FeedbackLog(folder)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """What Serve runs for its requests; the same application answers at a socket of its own."""
        context = serve.get_replica_context()
        name = context.replica_id.unique_id
        app = self.build(Replica(name=name, usd_per_hour=self._plan.usd_per_hour))
        if self._endpoint is None:
            return app
        self._server = ReplicaServer(app, host=ray.util.get_node_ip_address())
        self._server.start()
        if self._plan.speaks_grpc:
            self._grpc = GrpcServer(app.by_columns, host=self._server.address.host, echo_request_id=False)
            self._grpc.start()
        socket = ReplicaSocket(
            app=context.app_name,
            replica_id=name,
            address=self._server.address,
            grpc=None if self._grpc is None else self._grpc.address,
        )
        self._beat = FrontBeat(self._endpoint, socket)
        self._beat.start()
        return Drained(app, self._drain)

    def build(self, replica: Replica) -> FastPath:
        """The application; the front writes x-request-id and traceparent."""
        plan = self._plan
        return build_app(
            self._predictor,
            record=self._records,
            feedback=self._feedback,
            limits=RequestLimits(max_in_flight=plan.max_ongoing, timeout_seconds=plan.timeout_seconds),
            replica=replica,
            echo_request_id=False,
        )

    def record_autoscaling_stats(self) -> Mapping[str, float]:
        """What Serve asks each replica for."""
        return {_FRONT_LOAD: 0.0 if self._beat is None else self._beat.num_in_flight}

    def check_health(self) -> None:
        """What Serve asks each replica for; one that raises is replaced."""
        if self._server is not None and not self._server.is_running:
            raise RuntimeError("the replica's own server has ended")

    async def _drain(self) -> None:
        assert self._beat is not None
        assert self._server is not None
        await self._beat.end()
        await asyncio.sleep(_LET_GO_SECONDS)
        grace_seconds = self._plan.timeout_seconds
        closing = [self._server.close(grace_seconds=grace_seconds)]
        if self._grpc is not None:
            closing.append(self._grpc.close(grace_seconds=grace_seconds))
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
