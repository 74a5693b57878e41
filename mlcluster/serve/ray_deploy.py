"""Deploying: a new version is started beside the old one, tried, and takes over in one step, or never.

Each deployment is an application of its own on Ray Serve, so that the one that answers is left alone until the other
has shown that it can: what fails to load, answers 500, answers NaN or answers slowly leaves no trace but its error.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.config import HTTPOptions, ProxyLocation

from mlcluster.errors import ClusterError
from mlcluster.registry import Bundle
from mlcluster.serve.front.haproxy_config import Address, FrontLimits
from mlcluster.serve.front.plan import FrontPlan
from mlcluster.serve.other_models import ServedModel, ServedModels
from mlcluster.serve.plan import Endpoint, ServePlan
from mlcluster.serve.predictor import UNVERSIONED, Predictor
from mlcluster.serve.probe import Probe, try_out
from mlcluster.serve.ray_app import ModelReplica, build_application
from mlcluster.serve.ray_front import FrontHandle, find_front, open_front

log = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
_POLL_SECONDS = 0.25
_LEAST_SLOTS = 64
_RAISED = re.compile(r"^[\w.]+(?:Error|Exception|Warning): ")


def deploy(
    plan: ServePlan, *, timeout_seconds: float = 120.0, replica_type: type[ModelReplica] = ModelReplica
) -> Endpoint:
    """Serves the plan and returns once it answers over HTTP; Ray must be initialized.

    What was served under this name until now goes on until then, and goes on for good if this raises.

    Raises:
        BundleError: the bundle is damaged or cannot be loaded.
        ClusterError: it could not be started in time, the port is taken, or it answered badly when it was tried.
    """
    deadline = time.monotonic() + timeout_seconds
    predictor = Predictor(Bundle.from_files(plan.bundle_files, trusted=plan.trusted))
    others = plan.neighbours.others
    probes = [Probe.of(predictor, limit_seconds=plan.slowest_seconds)]
    # One at a time: together they may take all the memory that replicas have for them.
    probes += [Probe.of(Predictor(other.bundle), limit_seconds=plan.slowest_seconds) for other in others]
    _start_serve()
    front = open_front(plan.name, _front_plan(plan))
    for other in others:
        front.call("keep", other.files)
    application = _Application(name=_next_name(plan.name), plan=plan, front=front, deadline=deadline)
    try:
        application.start(replica_type)
        address = application.first_replica()
        for probe in probes:
            try_out(address, probe, front_secret=front.call("replica_secret"))
    except ClusterError as error:
        application.delete()
        if front.call("app"):
            raise ClusterError(f"{error} The version that was served goes on.") from error
        front.end()
        raise
    front.call("switch", application.name)
    front.call("drop_bundles_but", {other.model.digest for other in others})
    endpoint = Endpoint(
        url=plan.url,
        app_name=application.name,
        model=predictor.name,
        version=predictor.version,
        grpc=plan.grpc_address,
    )
    _wait_until_answering(endpoint, deadline)
    for former in _applications(plan.name) - {application.name}:
        serve.delete(former, _blocking=False)
    log.info("serving app=%s version=%s url=%s", application.name, endpoint.version, endpoint.url)
    return endpoint


def undeploy(name: str) -> bool:
    """Ends what is served under a name, and says whether there was anything; other endpoints go on."""
    front = find_front(name)
    if front is not None:
        front.end()
    found = _applications(name)
    for application in found:
        serve.delete(application)
    return bool(found) or front is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Application:
    """One deployment of a plan on Ray Serve."""

    name: str
    plan: ServePlan
    front: FrontHandle
    deadline: float
    """Of the clock `time.monotonic`."""

    def start(self, replica_type: type[ModelReplica]) -> None:
        """Until it has as many replicas as the former one, which has grown with its load.

        Where there is no room for all of them beside the former, it goes on with those that there are after half of
        the time: the others find room when the former has gone.
        """
        num_former = len(self.front.call("replicas"))
        application = build_application(self.plan, replica_type, num_former)
        patience = (time.monotonic() + self.deadline) / 2
        try:
            target = serve.RunTarget(target=application, name=self.name, route_prefix=f"/{self.name}")
            serve.run_many([target], wait_for_applications_running=False)
        except (RayError, RuntimeError, TimeoutError, ValueError) as error:
            raise ClusterError(
                f"serve = {self.plan.name} could not be started ({error}); see the log of Ray Serve."
            ) from error
        while True:
            found = serve.status().applications.get(self.name)
            state = "unknown" if found is None else str(found.status.value)
            if state == "RUNNING" or (time.monotonic() > patience and self.front.call("candidates", self.name)):
                return
            if state == "DEPLOY_FAILED" or time.monotonic() > self.deadline:
                raise ClusterError(
                    f"serve = {self.plan.name} is {state}, not RUNNING ({_reason(found)}); see the log of its replica."
                )
            time.sleep(_POLL_SECONDS)

    def first_replica(self) -> Address:
        """Where the first of its replicas answers that the front has heard of."""
        while True:
            found = self.front.call("candidates", self.name)
            if found:
                address: Address = found[0].address
                return address
            if time.monotonic() > self.deadline:
                raise ClusterError(f"serve = no replica of {self.plan.name} has opened a socket; see its log.")
            time.sleep(_POLL_SECONDS)

    def delete(self) -> None:
        serve.delete(self.name, _blocking=False)


def _front_plan(plan: ServePlan) -> FrontPlan:
    seconds = plan.request_timeout_seconds
    return FrontPlan(
        public=Address(host=plan.host, port=plan.port),
        grpc=None if plan.grpc_port is None else Address(host=plan.host, port=plan.grpc_port),
        waiting_room=Address(host=_LOOPBACK, port=_proxy_port()),
        # For those that are on their way out beside those that replace them.
        num_slots=max(_LEAST_SLOTS, 4 * plan.max_replicas),
        limits=FrontLimits(answer_seconds=seconds, max_per_replica=plan.max_ongoing),
        access=plan.access,
        others=_others(plan),
    )


def _others(plan: ServePlan) -> dict[str, str]:
    """As `FrontPlan.others`."""
    card = Bundle.from_files(plan.bundle_files).card
    own = ServedModel(name=card.name, version=card.version or UNVERSIONED, aliases=plan.neighbours.own_aliases)
    return ServedModels(own, (other.model for other in plan.neighbours.others)).names_of_others()


def _start_serve() -> None:
    """Ray Serve, its proxy on loopback at a free port: no request comes to it but through a front."""
    # Serve logs each step of the driver at INFO, on the stderr that is the caller's.
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    if serve.status().proxies:
        return
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        port = probe.getsockname()[1]
    # The front has a limit for each request; this one is for those that its client has left.
    options = HTTPOptions(host=_LOOPBACK, port=port, request_timeout_s=600.0)
    serve.start(proxy_location=ProxyLocation.HeadOnly, http_options=options)


def _proxy_port() -> int:
    """Serve does not say it in its public interface."""
    from ray.serve.context import _get_global_client

    return int(_get_global_client().http_config.port)


def _applications(name: str) -> set[str]:
    """The applications of an endpoint, those that are ending included."""
    pattern = re.compile(re.escape(name) + r"-\d+")
    return {found for found in serve.status().applications if pattern.fullmatch(found)}


def _next_name(name: str) -> str:
    return f"{name}-{max((int(found.rpartition('-')[2]) for found in _applications(name)), default=0) + 1}"


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
    """Until the version that answers at the front is the new one."""
    url = f"{endpoint.url}/v2/models/{endpoint.model}/versions/{endpoint.version}/ready"
    while True:
        problem = _not_ready(url)
        if problem is None:
            return
        if time.monotonic() > deadline:
            raise ClusterError(f"serve.url = {endpoint.url} does not answer ({problem}); see the log of the front.")
        time.sleep(_POLL_SECONDS)


def _not_ready(url: str) -> str | None:
    # Asked at the address of this machine, which the certificate need not name; nothing secret is sent.
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=5, context=unverified) as response:  # noqa: S310 - built from the plan
            return None if json.loads(response.read()).get("ready") is True else "it is not ready"
    except (urllib.error.URLError, OSError, ValueError) as error:
        return str(error)
