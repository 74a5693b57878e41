"""The application on Ray Serve: replicas that load the bundle from bytes, started, watched and replaced.

Each replica runs the whole application, so a request makes one hop behind the proxy. A bundle is loaded here once
before Serve hears of it: Serve would tear down what runs before it finds that the new version cannot start.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.config import AutoscalingConfig, HTTPOptions, ProxyLocation
from starlette.types import ASGIApp

from mlcluster.data import columns_to_table
from mlcluster.errors import ClusterError
from mlcluster.registry import Bundle
from mlcluster.serve.feedback import FeedbackLog
from mlcluster.serve.http_app import build_app
from mlcluster.serve.metrics import Replica
from mlcluster.serve.openapi import example_row
from mlcluster.serve.plan import Endpoint, ReplicaPlan, ServePlan
from mlcluster.serve.predictor import Predictor
from mlcluster.serve.reception import RequestLimits
from mlcluster.serve.records import JsonlRecordSink, NoRecords, RecordSink

log = logging.getLogger(__name__)

_DEPLOYMENT = "model"
_POLL_SECONDS = 0.25
_LOAD_ATTEMPTS = 3
_LOOK_BACK_SECONDS = 11.0
"""The least that Serve takes beside its 10 s of reporting; its default averages over 30 s, which hides a burst."""
_RAISED = re.compile(r"^[\w.]+(?:Error|Exception|Warning): ")


class ModelReplica:
    """One replica: a predictor and its application, built where it runs."""

    def __init__(self, plan: ReplicaPlan) -> None:
        _bind_replica_port_to_loopback()
        self._plan = plan
        self._predictor = Predictor(Bundle.from_files(plan.bundle_files))
        self._records: RecordSink = NoRecords()
        self._feedback: FeedbackLog | None = None
        if plan.records_folder is not None:
            folder = Path(plan.records_folder)
            self._records = JsonlRecordSink(folder, max_bytes=plan.records_bytes)
            self._feedback = FeedbackLog(folder)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """What Serve runs for requests; its proxy writes x-request-id."""
        name = serve.get_replica_context().replica_id.unique_id
        return build_app(
            self._predictor,
            record=self._records,
            feedback=self._feedback,
            limits=RequestLimits(max_in_flight=self._plan.max_ongoing),
            replica=Replica(name=name, usd_per_hour=self._plan.usd_per_hour),
            echo_request_id=False,
        )


def _bind_replica_port_to_loopback() -> None:
    """Binds the port that Serve opens in each replica, for calls from other deployments, to loopback.

    Serve opens it on every address, without a token, and unpickles what comes in; there are no other deployments, and
    its proxy calls replicas as actors. There is no setting for it, so this reaches into Ray: look at it again with each
    version.
    """
    from ray._common.tls_utils import add_port_to_grpc_server
    from ray.serve._private import replica

    replica.add_port_to_grpc_server = lambda server, _address: add_port_to_grpc_server(server, "127.0.0.1:0")


def build_application(plan: ServePlan) -> Any:
    """The Serve application of a plan; nothing is started."""
    autoscaling = AutoscalingConfig(
        min_replicas=plan.min_replicas,
        # One is warm from the start: a deployment that nobody has called yet would otherwise never be loaded.
        initial_replicas=max(1, plan.min_replicas),
        max_replicas=plan.max_replicas,
        target_ongoing_requests=plan.target_ongoing,
        upscale_delay_s=plan.upscale_delay_seconds,
        downscale_delay_s=plan.downscale_delay_seconds,
        look_back_period_s=_LOOK_BACK_SECONDS,
    )
    deployment = serve.deployment(
        serve.ingress()(ModelReplica),
        name=_DEPLOYMENT,
        autoscaling_config=autoscaling,
        # Room above the replica's own limit, so that it is the replica that answers 429, with Retry-After.
        max_ongoing_requests=plan.max_ongoing + max(8, plan.max_ongoing // 4),
        max_constructor_retry_count=_LOAD_ATTEMPTS,
        ray_actor_options={"num_cpus": plan.cpus_per_replica},
        logging_config={"enable_access_log": False},
    )
    return deployment.bind(plan.replica)


def deploy(plan: ServePlan, *, timeout_seconds: float = 120.0, fallback: ServePlan | None = None) -> Endpoint:
    """Serves the plan and returns once it answers over HTTP; Ray must be initialized.

    `fallback` is what was served until now: it is served again if the plan cannot be, since Serve itself answers 503
    from then on.

    Raises:
        BundleError: the bundle is damaged or cannot be loaded; what is being served goes on.
        ClusterError: it could not be started in time, or the port is taken.
    """
    predictor = _checked_predictor(plan)
    try:
        return _bring_up(plan, predictor, timeout_seconds)
    except ClusterError as error:
        if fallback is None:
            raise
        log.warning("falling back app=%s: %s", plan.name, error)
        version = _bring_up(fallback, _checked_predictor(fallback), timeout_seconds).version
        raise ClusterError(f"{error} Version {version} is served again.") from error


def _bring_up(plan: ServePlan, predictor: Predictor, timeout_seconds: float) -> Endpoint:
    deadline = time.monotonic() + timeout_seconds
    endpoint = Endpoint(
        url=f"http://{_reachable(plan.host)}:{plan.port}",
        app_name=plan.name,
        model=predictor.name,
        version=predictor.version,
    )
    try:
        _start_serve(plan)
        target = serve.RunTarget(target=build_application(plan), name=plan.name, route_prefix="/")
        serve.run_many([target], wait_for_applications_running=False)
    except (RayError, RuntimeError, TimeoutError, ValueError) as error:
        raise ClusterError(f"serve = {plan.name} could not be started ({error}); see the log of Ray Serve.") from error
    _wait_until_running(plan.name, deadline)
    _wait_until_answering(endpoint, deadline)
    log.info("serving app=%s model=%s version=%s url=%s", plan.name, endpoint.model, endpoint.version, endpoint.url)
    return endpoint


def undeploy(name: str) -> None:
    """Ends an application; another one, and Serve itself, go on."""
    serve.delete(name)


def _checked_predictor(plan: ServePlan) -> Predictor:
    """The plan's predictor, after one prediction."""
    predictor = Predictor(Bundle.from_files(plan.bundle_files, trusted=plan.trusted))
    columns = {name: [value] for name, value in example_row(predictor).items()}
    predictor.predict(columns_to_table(columns, predictor.schema))
    return predictor


def _start_serve(plan: ServePlan) -> None:
    if not serve.status().proxies:
        _check_port_is_free(plan.host, plan.port)
    # Serve logs each step of the driver at INFO, on the stderr that is the caller's.
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    options = HTTPOptions(host=plan.host, port=plan.port, request_timeout_s=plan.request_timeout_seconds)
    serve.start(proxy_location=ProxyLocation.HeadOnly, http_options=options)


def _check_port_is_free(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            problem = f"serve.port = {port} on {host} cannot be opened ({error.strerror})"
            raise ClusterError(f"{problem}; end what listens there, or choose another port.") from error


def _wait_until_running(name: str, deadline: float) -> None:
    while True:
        application = serve.status().applications.get(name)
        state = "unknown" if application is None else str(application.status.value)
        if state == "RUNNING":
            return
        if state == "DEPLOY_FAILED" or time.monotonic() > deadline:
            reason = _reason(application)
            raise ClusterError(f"serve = {name} is {state}, not RUNNING ({reason}); see the log of its replica.")
        time.sleep(_POLL_SECONDS)


def _reason(application: Any) -> str:
    """What Serve says about an application and its deployments, on one line."""
    if application is None:
        return "Serve does not know it"
    messages = [application.message, *(deployment.message for deployment in application.deployments.values())]
    lines: list[str] = [line.strip() for message in messages for line in message.splitlines() if line.strip()]
    # A replica's traceback ends in what went wrong; Serve puts its own words around it.
    raised = [line for line in lines if _RAISED.match(line)]
    return (raised or lines or ["no reason given"])[-1][-400:]


def _wait_until_answering(endpoint: Endpoint, deadline: float) -> None:
    """Until the proxy knows the route and the version that answers is the new one."""
    url = f"{endpoint.url}/v2/models/{endpoint.model}/versions/{endpoint.version}/ready"
    while True:
        problem = _not_ready(url)
        if problem is None:
            return
        if time.monotonic() > deadline:
            raise ClusterError(f"serve.url = {endpoint.url} does not answer ({problem}); see the log of Ray Serve.")
        time.sleep(_POLL_SECONDS)


def _not_ready(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - http, built from the plan
            return None if json.loads(response.read()).get("ready") is True else "it is not ready"
    except (urllib.error.URLError, OSError, ValueError) as error:
        return str(error)


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - compared, not bound
