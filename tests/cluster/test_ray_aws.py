"""The AWS files through Ray's own provider and second autoscaler, on a mock of EC2: what would really be bought."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default"), pytest.mark.timeout(180)]

FILES = Path(__file__).resolve().parents[2] / "cluster-configs"
AWS_FILES = ["aws-cpu.yaml", "aws-cpu-gpu-spot.yaml"]
MY_ADDRESS = "203.0.113.7/32"
BEYOND_IDLE_MS = 11 * 60 * 1000
"""The files say ten minutes."""


@pytest.fixture
def ec2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of the mock; Ray's cached clients are of no other test, and its key pair goes to a home of its own."""
    import boto3
    from moto import mock_aws
    from ray.autoscaler._private.aws import utils

    (tmp_path / ".ssh").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of the mock")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        for cached in (utils.resource_cache, utils.client_cache):
            cached.cache_clear()
        yield boto3.client("ec2")
    for cached in (utils.resource_cache, utils.client_cache):
        cached.cache_clear()


def security_group(ec2: Any) -> str:
    """The group that a file's comment makes."""
    group = ec2.create_security_group(GroupName="mlcluster", Description="mlcluster")["GroupId"]
    inside = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}
    mine = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": MY_ADDRESS}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[inside, mine])
    return str(group)


def bootstrapped(ec2: Any, name: str, *edits: tuple[str, str]) -> dict[str, Any]:
    """The file as `ray up` makes it ready, its documented edits applied."""
    import boto3
    from ray.autoscaler._private.providers import _get_node_provider_cls
    from ray.autoscaler._private.util import prepare_config

    boto3.client("iam").create_instance_profile(InstanceProfileName="head-of-mine")
    text = (FILES / name).read_text().replace("EDIT-ME-mlcluster-head", "head-of-mine")
    for old, new in (*edits, ("sg-EDIT-ME", security_group(ec2))):
        text = text.replace(old, new)
    config = prepare_config(yaml.safe_load(text))
    provider = _get_node_provider_cls(config["provider"])
    made: dict[str, Any] = provider.bootstrap_config(provider.fillout_available_node_types_resources(config))
    return made


def provider_of(config: dict[str, Any]) -> Any:
    from ray.autoscaler._private.providers import _get_node_provider

    return _get_node_provider(config["provider"], config["cluster_name"], use_cache=False)


def create(config: dict[str, Any], node_type: str) -> None:
    """One node of a type, by Ray's provider for the file."""
    kind = "head" if node_type == "head" else "worker"
    tags = {"ray-node-type": kind, "ray-user-node-type": node_type, "ray-node-name": f"ray-{kind}"}
    node_config = dict(config["available_node_types"][node_type]["node_config"])
    if node_type == "head":
        node_config.update(config["head_node"])
    provider_of(config).create_node(node_config, tags, 1)


def instances(ec2: Any) -> dict[str, dict[str, Any]]:
    """By node type, those that have not ended."""
    found = {}
    for reservation in ec2.describe_instances()["Reservations"]:
        for instance in reservation["Instances"]:
            if instance["State"]["Name"] in ("pending", "running"):
                found[tags_of(instance)["ray-user-node-type"]] = instance
    return found


def tags_of(instance: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in instance["Tags"]}


@pytest.mark.parametrize("name", AWS_FILES)
def test_each_type_is_bought_as_the_file_says(ec2: Any, name: str) -> None:
    config = bootstrapped(ec2, name)
    for node_type in config["available_node_types"]:
        create(config, node_type)
    made = instances(ec2)
    assert set(made) == set(config["available_node_types"])
    for node_type, instance in made.items():
        asked = config["available_node_types"][node_type]["node_config"]
        is_spot = node_type.endswith("-spot")
        assert instance["InstanceType"] == asked["InstanceType"]
        assert instance.get("InstanceLifecycle") == ("spot" if is_spot else None)
        assert [group["GroupId"] for group in instance["SecurityGroups"]] == asked["SecurityGroupIds"]
        assert instance["MetadataOptions"]["HttpTokens"] == "required"
        assert instance["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
        assert ("IamInstanceProfile" in instance) == (node_type == "head")
        tags = tags_of(instance)
        assert (tags["project"], tags["ray-cluster-name"]) == ("mlcluster", config["cluster_name"])
        assert tags["mlcluster-bought"] == ("spot" if is_spot else "on-demand")
    volumes = ec2.describe_volumes()["Volumes"]
    assert len(volumes) == len(made)
    assert all(volume["Encrypted"] and volume["VolumeType"] == "gp3" and volume["Size"] == 100 for volume in volumes)
    assert all({"Key": "project", "Value": "mlcluster"} in volume["Tags"] for volume in volumes)


@pytest.mark.parametrize("name", AWS_FILES)
def test_ray_leaves_the_security_group_as_it_is(ec2: Any, name: str) -> None:
    config = bootstrapped(ec2, name)
    create(config, "head")
    groups = {group["GroupId"] for one in instances(ec2).values() for group in one["SecurityGroups"]}
    rules = [
        (rule["IpProtocol"], rule.get("FromPort"), [one["CidrIp"] for one in rule["IpRanges"]])
        for group in ec2.describe_security_groups(GroupIds=list(groups))["SecurityGroups"]
        for rule in group["IpPermissions"]
    ]
    assert sorted(rules) == [("-1", None, []), ("tcp", 22, [MY_ADDRESS])]


def test_a_group_of_rays_own_would_open_ssh_to_the_world_as_the_check_says(ec2: Any) -> None:
    config = bootstrapped(ec2, "aws-cpu.yaml", ("      SecurityGroupIds: [sg-EDIT-ME]\n", ""))
    group = config["available_node_types"]["head"]["node_config"]["SecurityGroupIds"]
    rules = ec2.describe_security_groups(GroupIds=group)["SecurityGroups"][0]["IpPermissions"]
    assert [one["CidrIp"] for rule in rules for one in rule["IpRanges"]] == ["0.0.0.0/0"]


def test_the_key_that_ray_makes_is_the_owners_alone(ec2: Any, tmp_path: Path) -> None:
    bootstrapped(ec2, "aws-cpu.yaml")
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / ".ssh").glob("*.pem")] == [0o600]


def refuse_spot(monkeypatch: pytest.MonkeyPatch, code: str) -> Callable[[], int]:
    """EC2 has no spot node from here on; gives how often it was asked for one."""
    import botocore.client
    from botocore.exceptions import ClientError

    asked: list[str] = []
    answer = botocore.client.BaseClient._make_api_call

    def refusing(self: Any, operation: str, parameters: Any) -> Any:
        if operation == "RunInstances" and "InstanceMarketOptions" in parameters:
            asked.append(parameters["InstanceType"])
            raise ClientError({"Error": {"Code": code, "Message": "there is none"}}, operation)
        return answer(self, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", refusing)
    return lambda: len(asked)


def test_where_there_is_no_spot_node_one_is_bought_on_demand_at_once(ec2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = bootstrapped(ec2, "aws-cpu.yaml")
    num_asked = refuse_spot(monkeypatch, "InsufficientInstanceCapacity")
    create(config, "cpu-spot")
    made = instances(ec2)["cpu-spot"]
    assert num_asked() > 0
    assert made.get("InstanceLifecycle") is None
    assert tags_of(made)["mlcluster-bought"] == "on-demand"
    assert made["MetadataOptions"]["HttpTokens"] == "required"


def test_what_is_wrong_with_a_launch_otherwise_is_not_paid_for_on_demand(
    ec2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.autoscaler.node_launch_exception import NodeLaunchException

    config = bootstrapped(ec2, "aws-cpu.yaml")
    refuse_spot(monkeypatch, "UnauthorizedOperation")
    with pytest.raises(NodeLaunchException, match="UnauthorizedOperation"):
        create(config, "cpu-spot")
    assert instances(ec2) == {}


def test_rays_own_provider_starts_nothing_where_there_is_no_spot_node(
    ec2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.autoscaler.node_launch_exception import NodeLaunchException

    config = bootstrapped(
        ec2, "aws-cpu.yaml", ("type: external\n  module: mlcluster.cluster.ray_aws.SpotFirst", "type: aws")
    )
    refuse_spot(monkeypatch, "InsufficientInstanceCapacity")
    with pytest.raises(NodeLaunchException, match="InsufficientInstanceCapacity"):
        create(config, "cpu-spot")
    assert instances(ec2) == {}


def test_the_autoscaler_starts_workers_for_what_waits_and_ends_them_once_they_idle(ec2: Any) -> None:
    config = bootstrapped(ec2, "aws-cpu-gpu-spot.yaml")
    scaler = Scaler(config, ec2)
    # One of each: of several nodes that one call asks for, the mock starts the least number, which is one.
    to_launch, _ = scaler.decide([{"CPU": 1.0}] * 8 + [{"CPU": 1.0, "GPU": 1.0}])
    assert to_launch == {"cpu-spot": 1, "gpu-spot": 1}
    scaler.launch(to_launch)
    assert sorted(scaler.running().values()) == ["cpu-spot", "gpu-spot"]

    _, ended = scaler.decide([], idle_ms=9 * 60 * 1000)
    assert ended == []
    _, ended = scaler.decide([], idle_ms=BEYOND_IDLE_MS)
    assert len(ended) == 2
    scaler.terminate(ended)
    assert instances(ec2) == {}
    states = {one["State"]["Name"] for group in ec2.describe_instances()["Reservations"] for one in group["Instances"]}
    assert states == {"terminated"}  # not stopped, which would go on paying for the disks


class Scaler:
    """Ray's scheduler and its adapter to the provider: what the autoscaler on the head is, without a head."""

    def __init__(self, config: dict[str, Any], ec2: Any) -> None:
        from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig, IConfigReader
        from ray.autoscaler.v2.instance_manager.node_provider import NodeProviderAdapter

        class Reader(IConfigReader):
            def get_cached_autoscaling_config(self) -> AutoscalingConfig:
                return found

            def refresh_cached_autoscaling_config(self) -> None:
                return None

        found = AutoscalingConfig(config, skip_content_hash=True)
        self._config = found
        self._ec2 = ec2
        self._adapter = NodeProviderAdapter(provider_of(config), Reader())

    def decide(self, requests: list[dict[str, float]], *, idle_ms: int = 0) -> tuple[dict[str, int], list[str]]:
        """What the scheduler would start, and which instances it would end."""
        from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
        from ray.autoscaler.v2.utils import ResourceRequestUtil

        request = SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=self._config.get_node_type_configs(),
            max_num_nodes=self._config.get_max_num_nodes(),
            idle_timeout_s=self._config.get_idle_timeout_s(),
            resource_requests=ResourceRequestUtil.group_by_count([ResourceRequestUtil.make(one) for one in requests]),
            current_instances=[self._known(name, node_type, idle_ms) for name, node_type in self.running().items()],
        )
        reply = ResourceDemandScheduler(event_logger=None).schedule(request)
        launched = {one.instance_type: one.count for one in reply.to_launch}
        return launched, [one.instance_id for one in reply.to_terminate]

    def _known(self, name: str, node_type: str, idle_ms: int) -> Any:
        from ray.autoscaler.v2.schema import AutoscalerInstance
        from ray.core.generated.autoscaler_pb2 import NodeState, NodeStatus
        from ray.core.generated.instance_manager_pb2 import Instance, NodeKind

        offer = self._config.get_node_resources(node_type)
        node = NodeState(
            node_id=name.encode(),
            instance_id=name,
            ray_node_type_name=node_type,
            total_resources=offer,
            available_resources=offer,
            status=NodeStatus.IDLE,
            idle_duration_ms=idle_ms,
        )
        instance = Instance(
            instance_id=name,
            cloud_instance_id=name,
            instance_type=node_type,
            status=Instance.RAY_RUNNING,
            node_id=name,
            node_kind=NodeKind.WORKER,
        )
        return AutoscalerInstance(cloud_instance_id=name, ray_node=node, im_instance=instance)

    def running(self) -> dict[str, str]:
        """Instance -> node type."""
        return {name: one.node_type for name, one in self._adapter.get_non_terminated().items()}

    def launch(self, counts: dict[str, int]) -> None:
        self._adapter.launch(counts, "request")
        self._until(lambda: self._num_whole() == sum(counts.values()))

    def terminate(self, names: list[str]) -> None:
        self._adapter.terminate(names, "request")
        self._until(lambda: self._num_whole() == 0)

    def _num_whole(self) -> int:
        """Instances that have all their tags, which the mock gives one by one where EC2 gives them at once."""
        alive = {"Name": "instance-state-name", "Values": ["pending", "running"]}
        tagged = {"Name": "tag:project", "Values": ["mlcluster"]}
        found = self._ec2.describe_instances(Filters=[alive, tagged])["Reservations"]
        return sum(len(reservation["Instances"]) for reservation in found)

    def _until(self, is_done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 15
        while not is_done():
            assert time.monotonic() < deadline, self._adapter.poll_errors()
            time.sleep(0.05)
