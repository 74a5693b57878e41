"""Which node type Ray's autoscaler starts, asked of Ray's own scheduler with our files: what their comments say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

FILES = Path(__file__).resolve().parents[2] / "cluster-configs"


@pytest.fixture(autouse=True)
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home with the keys that the files name, of which Ray takes a hash."""
    (tmp_path / ".ssh").mkdir()
    for name in ("mlcluster_cluster", "mlcluster_cluster.pub"):
        (tmp_path / ".ssh" / name).write_text("not a key")
    monkeypatch.setenv("HOME", str(tmp_path))


def launched(file: str, requests: list[dict[str, float]], *, failed: Mapping[str, float] | None = None) -> Counter[str]:
    """The nodes that Ray's autoscaler v2 would start for these requests; `failed` types could not just be had."""
    from ray.autoscaler._private.util import prepare_config
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil

    config = AutoscalingConfig(prepare_config(yaml.safe_load((FILES / file).read_text())), skip_content_hash=True)
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=config.get_node_type_configs(),
        max_num_nodes=config.get_max_num_nodes(),
        resource_requests=ResourceRequestUtil.group_by_count(
            [ResourceRequestUtil.make(one) for one in requests],
        ),
        gang_resource_requests=[],
        cluster_resource_constraints=[],
        current_instances=[],
        cloud_resource_availabilities=dict(failed or {}),
        recoverable_resource_availabilities=dict(failed or {}),
    )
    reply = ResourceDemandScheduler(event_logger=None).schedule(request)
    return Counter({one.instance_type: one.count for one in reply.to_launch})


CASES = ["aws-cpu-gpu-spot.yaml", "gcp-cpu-gpu.yaml", "azure.yaml"]


@pytest.mark.parametrize("file", [*CASES, "aws-cpu.yaml"])
def test_trials_on_cpus_go_to_spot_workers(file: str) -> None:
    assert launched(file, [{"CPU": 1}] * 12)["cpu-spot"] == 2
    assert "gpu-spot" not in launched(file, [{"CPU": 1}] * 12)


@pytest.mark.parametrize("file", CASES)
def test_where_the_cloud_had_no_spot_node_one_on_demand_is_started(file: str) -> None:
    started = launched(file, [{"CPU": 1}] * 8, failed={"cpu-spot": 0.0})
    assert started["cpu-on-demand"] == 1
    assert "cpu-spot" not in started


@pytest.mark.parametrize("file", CASES)
def test_a_trial_on_a_gpu_starts_a_gpu_worker_on_spot(file: str) -> None:
    assert launched(file, [{"CPU": 1, "GPU": 1}] * 2)["gpu-spot"] == 2


def test_ray_remembers_a_node_that_never_came_up_and_forgets_a_launch_that_was_refused() -> None:
    """Why the files for AWS name SpotFirst: a refused launch leaves no trace in what Ray asks for next."""
    from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import CloudResourceMonitor
    from ray.core.generated.instance_manager_pb2 import Instance, InstanceUpdateEvent

    monitor = CloudResourceMonitor()
    monitor.notify([InstanceUpdateEvent(instance_type="cpu-spot", new_instance_status=Instance.ALLOCATION_FAILED)])
    assert monitor.get_recoverable_resource_availabilities() == {}
    monitor.notify([InstanceUpdateEvent(instance_type="cpu-spot", new_instance_status=Instance.ALLOCATION_TIMEOUT)])
    assert monitor.get_recoverable_resource_availabilities() == {"cpu-spot": 0.0}
