"""A head under Ray's second autoscaler, which starts and ends workers as raylets of this machine."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID
from ray.util import get_node_ip_address

from tests.cli.cluster_client import end_processes
from tests.cli.projects import ROOT, environment, free_ports
from tests.cli.test_cli_nodes import wait_for

EMPTY_LISTS = (
    *("setup_commands", "initialization_commands", "head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude", "rsync_filter"),
)


def write_config(path: Path, *, gcs_address: str, max_workers: int) -> None:
    """Types as in the project's `aws-cpu.yaml`, with a CPU each; an idle node would go after ten minutes."""
    worker = {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": max_workers}
    provider = {
        "type": "external",
        "module": "tests.cluster.fake_provider.FakeProvider",
        "gcs_address": gcs_address,
        "head_node_id": FAKE_HEAD_NODE_ID,
        "launch_multiple": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    }
    config = {
        "cluster_name": "elastic",
        "max_workers": max_workers,
        "idle_timeout_minutes": 10,
        "upscaling_speed": 100.0,
        "provider": provider,
        "available_node_types": {
            "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "cpu-spot": worker,
        },
        "head_node_type": "head",
        **{name: {} for name in ("auth", "file_mounts")},
        **{name: [] for name in EMPTY_LISTS},
        "file_mounts_sync_continuously": False,
    }
    path.write_text(json.dumps(config))


@contextlib.contextmanager
def elastic_cluster(temp_dir: str, token: Path, *, max_workers: int) -> Iterator[str]:
    """The address of a head without workers; all that it has started is ended at the end."""
    port, client_port, agent_port = free_ports(3)
    address = f"{get_node_ip_address()}:{port}"
    config = Path(temp_dir) / "cluster.json"
    write_config(config, gcs_address=address, max_workers=max_workers)
    settings = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "RAY_NODE_TYPE_NAME": "head",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
        *(f"--port={port}", f"--ray-client-server-port={client_port}", f"--temp-dir={temp_dir}"),
        *("--include-dashboard=false", "--num-cpus=0", f"--dashboard-agent-listen-port={agent_port}"),
        f"--autoscaling-config={config}",
    ]
    log = Path(temp_dir) / "head.log"
    with log.open("w") as output:
        head = subprocess.Popen(command, env=environment(settings), stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for(log, head)
        yield address
    finally:
        end_all(head, temp_dir)


def end_all(head: subprocess.Popen[bytes], temp_dir: str) -> None:
    """The head, and what bears its temporary folder in its command: its own children and the workers."""
    end_processes([process for process in psutil.process_iter() if temp_dir in _command(process)])
    head.wait()


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
