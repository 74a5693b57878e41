"""Who could reach a cluster that a Ray file describes: tokens, ports, keys, disks, metadata.

Of what a cloud does by itself, only that is said which Ray leaves open: see `docs/clusters.md` for where each is from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mlcluster.cluster.documents import KeyPath
from mlcluster.cluster.findings import Finding, Level, key_value, list_at, mapping_at, value_at
from mlcluster.cluster.plan import ClusterPlan, Provider
from mlcluster.cluster.reading import TYPES_KEY
from mlcluster.spec import YamlDocument

_STARTS = ("head_start_ray_commands", "worker_start_ray_commands")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_WORLD = ("0.0.0.0/0", "::/0")
_MOUNT_NAME = "auth_token"
_EVERYDAY_KEYS = ("id_rsa", "id_ed25519", "id_ecdsa")
_Check = Callable[[YamlDocument], Iterator[Finding]]


def security_findings(plan: ClusterPlan, document: YamlDocument) -> list[Finding]:
    """What lets strangers in, as errors; what lets them in further once they are, as warnings."""
    clouds: dict[Provider, _Check] = {"aws": _aws, "gcp": _gcp, "azure": _azure, "local": _local}
    return [*_tokens(document), *_dashboard(document), *_key(document), *clouds[plan.provider](document)]


def _tokens(document: YamlDocument) -> Iterator[Finding]:
    for name in _STARTS:
        for path, command in _ray_starts(document, name):
            if "RAY_AUTH_MODE=token" not in command:
                yield _finding(
                    "error",
                    document,
                    path,
                    "starts Ray without a token: whoever reaches its ports runs code there",
                    "put RAY_AUTH_MODE=token before ray start",
                )
        if not any(True for _ in _ray_starts(document, name)):
            yield _finding("error", document, (name,), "starts no Ray of this file's", "add a `ray start` to it")
    mounts = mapping_at(document.values, ("file_mounts",))
    token = next((target for target in mounts if PurePosixPath(str(target)).name == _MOUNT_NAME), None)
    if token is None:
        yield _finding("error", document, ("file_mounts",), f"brings no {_MOUNT_NAME} to the nodes", _mount_fix())
    elif not any(re.search(r"\bchmod\b.*\.ray\b", line) for line in _setup(document)):
        yield _finding(
            "warning",
            document,
            ("setup_commands",),
            "leaves the token's mode to chance",
            f"begin them with chmod 600 {token}",
        )


def _mount_fix() -> str:
    return f"add ~/.ray/{_MOUNT_NAME}: ~/.ray/{_MOUNT_NAME}"


def _setup(document: YamlDocument) -> list[str]:
    return [str(line) for line in list_at(document.values, ("setup_commands",))]


def _ray_starts(document: YamlDocument, name: str) -> Iterator[tuple[KeyPath, str]]:
    for index, command in enumerate(list_at(document.values, (name,))):
        if re.search(r"\bray start\b", str(command)):
            yield (name, index), str(command)


def _dashboard(document: YamlDocument) -> Iterator[Finding]:
    """Ray's own default is loopback; Ray's examples for the clouds say 0.0.0.0."""
    for path, command in _ray_starts(document, _STARTS[0]):
        host = re.search(r"--dashboard-host[= ](\S+)", command)
        if host is not None and host[1] not in _LOOPBACK:
            yield _finding(
                "error",
                document,
                path,
                f"has the dashboard and its jobs listen on {host[1]}",
                "use --dashboard-host=127.0.0.1; `ray dashboard FILE` reaches it over SSH",
            )


def _key(document: YamlDocument) -> Iterator[Finding]:
    path: KeyPath = ("auth", "ssh_private_key")
    key = value_at(document.values, path)
    if key is not None and PurePosixPath(str(key)).name in _EVERYDAY_KEYS:
        yield _finding(
            "warning",
            document,
            path,
            "is a key for other things too, and `ray up` copies it to the head",
            "make one for this cluster alone: ssh-keygen -t ed25519 -N '' -f ~/.ssh/mlcluster_cluster",
        )


def secret_file_findings(document: YamlDocument, *, home: Path) -> list[Finding]:
    """The token and the private key on this machine: there, and nobody else's to read."""
    found = []
    mounts = mapping_at(document.values, ("file_mounts",))
    paths: list[KeyPath] = [
        ("file_mounts", target) for target in mounts if PurePosixPath(str(target)).name == _MOUNT_NAME
    ]
    for path in [*paths, ("auth", "ssh_private_key")]:
        given = value_at(document.values, path)
        if given is None:
            continue
        file = home / str(given)[2:] if str(given).startswith("~/") else Path(str(given))
        if not file.exists():
            found.append(_finding("edit", document, path, "is not on this machine", "make it before you bring it up"))
        elif file.stat().st_mode & 0o077:
            mode = f"has mode {file.stat().st_mode & 0o777:04o}, and others here can read it"
            found.append(_finding("edit", document, path, mode, f"chmod 600 {given}"))
    return found


def _aws(document: YamlDocument) -> Iterator[Finding]:
    permissions: KeyPath = ("provider", "security_group", "IpPermissions")
    if any(world in str(value_at(document.values, permissions)) for world in _WORLD):
        yield _finding("error", document, permissions, "lets the whole world in", "name your own addresses")
    path: KeyPath = ("provider", "cache_stopped_nodes")
    if value_at(document.values, path) is not False:
        yield _finding(
            "warning", document, path, "has idle nodes stopped, which go on paying for their disks", "set it to false"
        )
    head = document.values.get("head_node_type")
    for name, path, config in _node_configs(document):
        if "LaunchTemplate" in config:  # what it says is with the cloud
            continue
        yield from _aws_doors(document, path, config)
        if name == head and "IamInstanceProfile" not in config:
            yield _finding(
                "warning",
                document,
                path,
                "names no IamInstanceProfile, and the one that Ray makes may do anything in EC2 and S3",
                "name one of your own, with the policy of docs/clusters.md",
            )
        disks = list_at(config, ("BlockDeviceMappings",))
        if not (disks and all(value_at(disk, ("Ebs", "Encrypted")) for disk in disks)):
            yield _finding(
                "warning", document, path, "has a disk that is not encrypted", "set Ebs: {Encrypted: true} on each"
            )


def _aws_doors(document: YamlDocument, path: KeyPath, config: Mapping[str, Any]) -> Iterator[Finding]:
    if not {"SecurityGroupIds", "NetworkInterfaces"} & set(config):
        yield _finding(
            "error",
            document,
            path,
            "names no SecurityGroupIds, and the group that Ray makes opens port 22 to the whole world",
            "make one that lets in your own address only, and name it",
        )
    if value_at(config, ("MetadataOptions", "HttpTokens")) != "required":
        yield _finding(
            "warning",
            document,
            path,
            "lets programs on the node fetch its credentials with one request (IMDSv1)",
            "set MetadataOptions: {HttpTokens: required}",
        )


def _gcp(document: YamlDocument) -> Iterator[Finding]:
    for _, path, config in _node_configs(document):
        interfaces = list_at(config, ("networkInterfaces",))
        if not interfaces:
            yield _finding(
                "error",
                document,
                path,
                "names no networkInterfaces, and Ray gives the node an external address in the first network it finds",
                "name a subnetwork of your own, without accessConfigs",
            )
        elif any("accessConfigs" in mapping_at(one, ()) for one in interfaces):
            yield _finding(
                "error",
                document,
                (*path, "networkInterfaces"),
                "gives the node an external address",
                "take accessConfigs out; come in over IAP, as in cluster-configs/gcp-cpu-gpu.yaml",
            )
        if not value_at(config, ("shieldedInstanceConfig", "enableVtpm")):
            fix = "set shieldedInstanceConfig: {enableVtpm: true, enableIntegrityMonitoring: true}"
            yield _finding("warning", document, path, "is no shielded machine", fix)
    if value_at(document.values, ("auth", "ssh_private_key")) is None:
        yield _finding(
            "warning",
            document,
            ("auth",),
            "names no ssh_private_key, and Ray adds one that opens every machine of the project",
            "name one, and give it to the nodes as metadata ssh-keys",
        )


def _azure(document: YamlDocument) -> Iterator[Finding]:
    provider = mapping_at(document.values, ("provider",))
    for key, is_open in (
        ("use_internal_ips", not provider.get("use_internal_ips")),
        ("use_external_head_ip", bool(provider.get("use_external_head_ip"))),
    ):
        if is_open:
            yield _finding(
                "error",
                document,
                ("provider", key),
                "gives nodes public addresses, and Ray's template opens port 22 of them to the whole world",
                "set use_internal_ips: true, and no use_external_head_ip; come in from inside the network",
            )


def _local(document: YamlDocument) -> Iterator[Finding]:
    for path, command in _ray_starts(document, _STARTS[0]):
        if "RAY_enable_autoscaler_v2=0" not in command:
            yield _finding(
                "error",
                document,
                path,
                "starts Ray's second autoscaler, which leaves one worker out on machines of one's own (ray#57153)",
                "put RAY_enable_autoscaler_v2=0 before ray start",
            )


def _node_configs(document: YamlDocument) -> Iterator[tuple[str, KeyPath, Mapping[str, Any]]]:
    for name in mapping_at(document.values, (TYPES_KEY,)):
        path: KeyPath = (TYPES_KEY, name, "node_config")
        yield name, path, mapping_at(document.values, path)


def _finding(level: Level, document: YamlDocument, path: KeyPath, problem: str, fix: str) -> Finding:
    value = value_at(document.values, path)
    shown = None if isinstance(value, Mapping | list) else value
    return Finding(level=level, where=document.where(path), problem=f"{key_value(path, shown)} {problem}", fix=fix)
