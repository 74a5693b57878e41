"""The last stage: the verified winner behind an endpoint."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlcluster.cli.cluster_prices import worker_prices
from mlcluster.cli.endpoint_access import read_access
from mlcluster.cli.leasing import CLUSTER_CPUS_PER_REPLICA
from mlcluster.cli.neighbours import find_models, read_neighbours
from mlcluster.cli.planning import stage_forecasts
from mlcluster.cli.ray_local import is_on_cluster
from mlcluster.cli.run_context import RunContext
from mlcluster.cli.workspace import write_json
from mlcluster.registry import Bundle
from mlcluster.spec import MonitorSpec

if TYPE_CHECKING:
    from mlcluster.registry.mlflow_registry import MlflowRegistry, ModelVersion
    from mlcluster.serve.plan import Neighbours, ServePlan


def run_deploy_stage(
    context: RunContext, bundle: Bundle, *, registered: tuple[MlflowRegistry, ModelVersion], port: int
) -> dict[str, Any]:
    """Serves the bundle, which is `registered`, on the connected Ray and gives its endpoint's record."""
    from mlcluster.serve.ray_deploy import deploy

    registry, version = registered
    found = find_models(context.spec.serve, registry, version)
    neighbours = read_neighbours(context.spec.serve, registry, context.keys, found)
    plan = _serve_plan(context, bundle, neighbours, port)
    worst_case = stage_forecasts(context.lease, num_rows=0)["deploy"].worst_case_seconds
    with context.meter.running("deploy"):
        endpoint = deploy(plan, timeout_seconds=worst_case)
    also = [{"name": other.name, "version": other.version, "aliases": other.aliases} for other in found.versions]
    record = {**asdict(endpoint), "infer_url": endpoint.infer_url, "run": context.run.run_id, "also": also}
    write_json(context.workspace.endpoint_file, record)
    if is_on_cluster():
        from mlcluster.cli.served_record import keep_served

        keep_served(context.workspace, plan, bundle=context.run.bundle(endpoint.version), run=context.run.run_id)
    where = endpoint.url if endpoint.grpc is None else f"{endpoint.url}, and by gRPC at {endpoint.grpc}"
    context.progress.stage("deploy", f"{endpoint.model} version {endpoint.version} answers at {where}")
    for other in also:
        names = ", ".join(f"@{alias}" for alias in other["aliases"])
        context.progress.say(f"         beside it {other['name']} version {other['version']} {names}".rstrip())
    for name in found.absent:
        context.progress.say(f"         {name} is not served: MLflow has no such alias yet")
    return record


def _serve_plan(context: RunContext, bundle: Bundle, neighbours: Neighbours, port: int) -> ServePlan:
    from mlcluster.serve.plan import ServePlan

    prices = worker_prices(context.spec, context.project_folder).book
    serve, monitor = context.spec.serve, context.spec.monitor or MonitorSpec()
    # On a laptop a replica reserves nothing, so that it starts beside a search; it may take a core.
    cpus = CLUSTER_CPUS_PER_REPLICA if is_on_cluster() else 0.0
    return ServePlan(
        name=context.spec.project,
        bundle_files=bundle.files(),
        trusted=context.keys.trusted,
        min_replicas=serve.replicas.min,
        max_replicas=serve.replicas.max,
        target_ongoing=serve.target_ongoing,
        cpus_per_replica=cpus,
        replica_usd_per_hour=(cpus or 1.0) * prices.cpu_usd_per_hour,
        records_folder=str(context.workspace.predictions.resolve()),
        records_bytes=int(serve.records_gb * 1e9),
        statistics_seconds=monitor.drift.window.hours * 3600 if monitor.histograms else None,
        host=serve.host,
        port=port,
        neighbours=neighbours,
        grpc_port=serve.grpc_port,
        access=read_access(serve, context.project_folder),
        request_timeout_seconds=serve.timeout_ms / 1000,
        slowest_seconds=serve.slowest_ms / 1000,
    )
