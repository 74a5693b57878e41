"""The last stage: the verified winner behind an endpoint."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mlcluster.cli.cluster_prices import worker_prices
from mlcluster.cli.endpoint_access import read_access
from mlcluster.cli.leasing import CLUSTER_CPUS_PER_REPLICA
from mlcluster.cli.planning import stage_forecasts
from mlcluster.cli.ray_local import is_on_cluster
from mlcluster.cli.run_context import RunContext
from mlcluster.cli.workspace import write_json
from mlcluster.registry import Bundle


def run_deploy_stage(context: RunContext, bundle: Bundle, *, port: int) -> dict[str, Any]:
    """Serves the bundle on the connected Ray and gives its endpoint's record."""
    from mlcluster.serve.plan import ServePlan
    from mlcluster.serve.ray_deploy import deploy

    prices = worker_prices(context.spec, context.project_folder).book
    serve = context.spec.serve
    # On a laptop a replica reserves nothing, so that it starts beside a search; it may take a core.
    cpus = CLUSTER_CPUS_PER_REPLICA if is_on_cluster() else 0.0
    plan = ServePlan(
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
        host=serve.host,
        port=port,
        grpc_port=serve.grpc_port,
        access=read_access(serve, context.project_folder),
        request_timeout_seconds=serve.timeout_ms / 1000,
        slowest_seconds=serve.slowest_ms / 1000,
    )
    worst_case = stage_forecasts(context.lease, num_rows=0)["deploy"].worst_case_seconds
    with context.meter.running("deploy"):
        endpoint = deploy(plan, timeout_seconds=worst_case)
    record = {**asdict(endpoint), "infer_url": endpoint.infer_url, "run": context.run.run_id}
    write_json(context.workspace.endpoint_file, record)
    where = endpoint.url if endpoint.grpc is None else f"{endpoint.url}, and by gRPC at {endpoint.grpc}"
    context.progress.stage("deploy", f"{endpoint.model} version {endpoint.version} answers at {where}")
    return record
