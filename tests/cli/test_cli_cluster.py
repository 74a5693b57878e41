"""`cluster check | up | down` on the shipped files and on wrong ones, as whoever edits them would run it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.projects import make_project, run_here
from tests.cluster.files import FOLDER, edited

CLOUDS = ("aws-cpu.yaml", "aws-cpu-gpu-spot.yaml", "gcp-cpu-gpu.yaml", "azure.yaml")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a token and a key that are nobody else's to read."""
    home = tmp_path / "home"
    for name in (".ray/auth_token", ".ssh/mlcluster_cluster"):
        file = home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("secret")
        file.chmod(0o600)
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.mark.parametrize("name", [*CLOUDS, "local.yaml"])
def test_a_shipped_file_has_no_errors_and_tells_what_to_fill_in(name: str) -> None:
    done = run_here(FOLDER.parent, "cluster", "check", f"cluster-configs/{name}", "--json")
    assert done.code == 0, done.stdout
    levels = {finding["level"] for finding in done.json["findings"]}
    assert "error" not in levels
    assert done.json["is_fine"]
    assert ("edit" in levels) == (name != "local.yaml")
    assert done.json["is_ready"] == (name == "local.yaml")


def test_the_table_shows_types_prices_and_what_an_hour_costs() -> None:
    shown = run_here(FOLDER.parent, "cluster", "check", "cluster-configs/gcp-cpu-gpu.yaml").stdout
    assert "gpu-spot       0..4   g2-standard-4   4    1    spot       0.2300" in shown
    assert "an hour: $0.07 at least, $0.66 at half size, $5.81 at most, without disks and traffic" in shown


@pytest.mark.parametrize(
    ("name", "old", "new", "complaint"),
    [
        (
            "aws-cpu.yaml",
            "upscaling_speed",
            "upscaling_sped",
            "error    aws-cpu.yaml:26: upscaling_sped is no key that Ray",
        ),
        ("aws-cpu.yaml", "max_workers: 8", "max_workers: many", "max_workers = many is not what Ray takes"),
        (
            "aws-cpu.yaml",
            "head_node_type: head",
            "head_node_type: haed",
            "Ray refuses the file (`head_node_type` must be",
        ),
        ("aws-cpu.yaml", "RAY_AUTH_MODE=token ray start --address", "ray start --address", "without a token"),
        ("aws-cpu.yaml", "  ~/.ray/auth_token: ~/.ray/auth_token\n", "  {}\n", "brings no auth_token to the nodes"),
        ("aws-cpu.yaml", "--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "jobs listen on 0.0.0.0"),
        ("aws-cpu.yaml", "      SecurityGroupIds: [sg-EDIT-ME]\n", "", "opens port 22 to the whole world"),
        (
            "aws-cpu.yaml",
            "  cache_stopped_nodes: false",
            "  security_group: {IpPermissions: [{FromPort: 443, IpRanges: [{CidrIp: 0.0.0.0/0}]}]}",
            "provider.security_group.IpPermissions lets the whole world in; name your own addresses.",
        ),
        (
            "aws-cpu.yaml",
            "m6a.2xlarge",
            "m6a.2xlrage",
            "m6a.2xlrage is not in prices.yaml, so it has no price; did you mean",
        ),
        (
            "gcp-cpu-gpu.yaml",
            "      networkInterfaces:",
            "      networks:",
            "Ray gives the node an external address in",
        ),
        (
            "gcp-cpu-gpu.yaml",
            "subnetworks/mlcluster\n",
            "subnetworks/mlcluster\n          accessConfigs: [{type: ONE_TO_ONE_NAT}]\n",
            "networkInterfaces gives the node an external address; take accessConfigs out",
        ),
        ("azure.yaml", "use_internal_ips: true", "use_internal_ips: false", "Ray's template opens port 22 of them to"),
        ("local.yaml", " RAY_enable_autoscaler_v2=0", "", "(ray#57153)"),
    ],
)
def test_what_is_wrong_is_an_error_with_its_line_and_exit_code_2(
    tmp_path: Path, name: str, old: str, new: str, complaint: str
) -> None:
    path = edited(tmp_path, name, (old, new))
    done = run_here(tmp_path, "cluster", "check", path.name)
    assert done.code == 2, done.stdout
    assert any(line.startswith("error") and complaint in line for line in done.stdout.splitlines()), done.stdout


@pytest.mark.parametrize(
    ("name", "old", "new", "complaint"),
    [
        ("aws-cpu.yaml", "HttpTokens: required, ", "", "(IMDSv1)"),
        ("aws-cpu.yaml", "Encrypted: true", "Encrypted: false", "has a disk that is not encrypted"),
        ("aws-cpu.yaml", "IamInstanceProfile", "Monitoring", "may do anything in EC2 and S3"),
        ("aws-cpu.yaml", "  cache_stopped_nodes: false\n", "", "go on paying for their disks"),
        ("gcp-cpu-gpu.yaml", "enableVtpm: true", "enableVtpm: false", "is no shielded machine"),
        ("azure.yaml", "~/.ssh/mlcluster_cluster\n", "~/.ssh/id_ed25519\n", "and `ray up` copies it to the head"),
        (
            "aws-cpu.yaml",
            "type: external\n  module: mlcluster.cluster.ray_aws.SpotFirst",
            "type: aws",
            "provider.type = aws asks EC2 for spot nodes for ever where there are none (ray#20774)",
        ),
        ("gcp-cpu-gpu.yaml", "    priority: 1\n", "", "priority = 0 is not above that of cpu-on-demand"),
        (
            "azure.yaml",
            'resources: {"CPU": 4, "GPU": 1}\n    min_workers: 0\n    max_workers: 4\n    node_config',
            'resources: {"CPU": 3, "GPU": 1}\n    min_workers: 0\n    max_workers: 4\n    node_config',
            "gpu-spot has no type on demand beside it that offers the same",
        ),
        ("azure.yaml", "  - chmod 600 ~/.ray/auth_token\n", "", "leaves the token's mode to chance"),
    ],
)
def test_what_could_be_closed_further_is_a_warning(
    tmp_path: Path, name: str, old: str, new: str, complaint: str
) -> None:
    path = edited(tmp_path, name, (old, new))
    done = run_here(tmp_path, "cluster", "check", path.name)
    assert done.code == 0, done.stdout
    assert any(line.startswith("warning") and complaint in line for line in done.stdout.splitlines()), done.stdout


def test_a_zero_price_is_an_error_of_the_list(tmp_path: Path) -> None:
    path = edited(tmp_path, "aws-cpu.yaml")
    text = (tmp_path / "prices.yaml").read_text()
    (tmp_path / "prices.yaml").write_text(text.replace("usd_per_hour: 0.0864", "usd_per_hour: 0"))
    done = run_here(tmp_path, "cluster", "check", path.name)
    assert done.code == 2
    assert "types.m6a.large.usd_per_hour = 0 is wrong (input should be greater than 0); correct" in done.stdout
    assert "an hour: not known, for a type has no price" in done.stdout


def test_a_missing_price_list_is_an_error(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "aws-cpu.yaml", tmp_path)
    done = run_here(tmp_path, "cluster", "check", "aws-cpu.yaml")
    assert done.code == 2
    assert "error    prices.yaml: prices.yaml = no file in" in done.stdout


def test_a_request_that_no_node_can_meet_is_an_error_at_once(tmp_path: Path) -> None:
    project = make_project(tmp_path / "demo", "workers: gpu\nmodels: [mlp]\ndata: {source: data/t.csv, target: y}\n")
    shutil.copytree(FOLDER, project / "cluster-configs")
    done = run_here(project, "cluster", "check", "cluster-configs/aws-cpu.yaml")
    assert done.code == 2
    assert "workers = gpu asks for a trial on a GPU (1 CPU + 1 GPU), and no node type can hold" in done.stdout
    assert run_here(project, "cluster", "check", "cluster-configs/aws-cpu.yaml", "--set", "workers=cpu").code == 0


def test_secrets_that_others_can_read_must_be_closed_before_up(home: Path) -> None:
    (home / ".ray" / "auth_token").chmod(0o644)
    done = run_here(FOLDER.parent, "cluster", "check", "cluster-configs/local.yaml")
    assert done.code == 0
    assert "has mode 0644, and others here can read it; chmod 600 ~/.ray/auth_token." in done.stdout
    refused = run_here(FOLDER.parent, "cluster", "up", "cluster-configs/local.yaml", "--yes")
    assert refused.code == 2
    assert "has 1 thing to put right first; see above." in refused.stderr


def test_up_refuses_a_file_that_is_not_filled_in_and_starts_nothing() -> None:
    done = run_here(FOLDER.parent, "cluster", "up", "cluster-configs/aws-cpu.yaml", "--yes")
    assert done.code == 2
    assert "sg-EDIT-ME is the template's" in done.stderr
    assert "ray up" not in done.stderr


@pytest.mark.parametrize(
    ("name", "verb", "command"),
    [
        ("aws-cpu.yaml", "up", "ray up cluster-configs/aws-cpu.yaml -y"),
        ("aws-cpu.yaml", "down", "ray down cluster-configs/aws-cpu.yaml -y"),
        ("local.yaml", "up", "RAY_UP_enable_autoscaler_v2=0 ray up cluster-configs/local.yaml --no-config-cache -y"),
    ],
)
def test_up_and_down_print_the_command_that_they_would_run(name: str, verb: str, command: str) -> None:
    done = run_here(FOLDER.parent, "cluster", verb, f"cluster-configs/{name}", "--yes", "--dry-run")
    assert done.code == 0
    assert done.stderr.splitlines()[-1] == command


def test_up_runs_ray_with_the_settings_that_it_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = tmp_path / "bin" / "ray"
    ray.parent.mkdir()
    ray.write_text(f'#!/bin/sh\necho "$RAY_UP_enable_autoscaler_v2 $*" > {tmp_path}/told\nexit 7\n')
    ray.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "bin" / "python"))
    done = run_here(FOLDER.parent, "cluster", "up", "cluster-configs/local.yaml", "-y")
    assert done.code == 7
    assert (tmp_path / "told").read_text() == "0 up cluster-configs/local.yaml --no-config-cache -y\n"


def test_a_new_project_has_the_files_and_what_it_asks_fits_on_each(tmp_path: Path) -> None:
    assert run_here(tmp_path, "init", "demo").code == 0
    for name in (*CLOUDS, "kuberay/raycluster.yaml", "kuberay/rayjob.yaml", "kuberay/rayservice.yaml"):
        done = run_here(tmp_path / "demo", "cluster", "check", f"cluster-configs/{name}")
        assert done.code == 0, done.stdout
        assert "note: no mlcluster.yaml here" not in done.stderr
        assert "an hour: $0." in done.stdout


def test_kuberays_files_are_held_against_the_definitions_that_are_given(tmp_path: Path, shared_kuberay: Path) -> None:
    (tmp_path / "kuberay").mkdir()
    path = tmp_path / "kuberay" / "rayjob.yaml"
    text = (FOLDER / "kuberay" / "rayjob.yaml").read_text()
    path.write_text(text.replace("backoffLimit: 0", "backofLimit: 0"))
    shutil.copy(FOLDER / "prices.yaml", tmp_path)
    words = ("cluster", "check", "kuberay/rayjob.yaml")
    assert run_here(tmp_path, *words).code == 0
    done = run_here(tmp_path, *words, "--crds", str(shared_kuberay))
    assert done.code == 2
    assert (
        "error    rayjob.yaml:20: spec.backofLimit is no key of RayJob, and would be dropped; did you mean"
        in done.stdout
    )


def test_definitions_are_refused_for_a_file_of_rays(tmp_path: Path) -> None:
    done = run_here(FOLDER.parent, "cluster", "check", "cluster-configs/aws-cpu.yaml", "--crds", str(tmp_path))
    assert done.code == 2
    assert "is for KubeRay's resources, and aws-cpu.yaml holds none; leave it out." in done.stderr


def test_kuberays_files_go_to_kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = "cluster-configs/kuberay/raycluster.yaml"
    for verb, word in (("up", "apply"), ("down", "delete")):
        done = run_here(FOLDER.parent, "cluster", verb, file, "--dry-run")
        assert done.stderr.splitlines()[-1] == f"kubectl {word} -f {file}"
    monkeypatch.setenv("PATH", str(tmp_path))
    refused = run_here(FOLDER.parent, "cluster", "down", file)
    assert refused.code == 2
    assert refused.stderr.splitlines()[-1].startswith("mlcluster: kubectl = no such command here; install it")


def test_size_says_how_many_nodes_each_stage_wants_and_what_one_size_would_cost() -> None:
    asked = ("--trials", "81", "--trial", "2h", "--within", "2.4h")
    done = run_here(FOLDER.parent, "cluster", "size", "cluster-configs/gcp-cpu-gpu.yaml", *asked, "--json")
    assert done.code == 0, done.stderr
    found = done.json
    assert found["trials"] == [81, 27, 9, 3, 1]
    assert found["elastic"]["usd"] < found["static"]["usd"]
    assert found["elastic"]["seconds"] <= 2.4 * 3600
    nodes = [stage["nodes"] for stage in found["elastic"]["stages"]]
    assert nodes[0] > nodes[-1] == 1
    shown = run_here(FOLDER.parent, "cluster", "size", "cluster-configs/gcp-cpu-gpu.yaml", *asked).stdout
    assert "the cheapest within the deadline: $" in shown
    assert "the best single size, " in shown


def test_size_says_when_a_deadline_or_a_budget_cannot_be_kept() -> None:
    asked = ("cluster", "size", "cluster-configs/aws-cpu.yaml", "--trials", "9", "--trial", "2h")
    late = run_here(FOLDER.parent, *asked, "--within", "30m")
    assert late.code == 2
    assert "no size meets the deadline; the fastest within the budget: $" in late.stdout
    assert "the deadline is not met" in late.stdout
    poor = run_here(FOLDER.parent, *asked, "--within", "1d", "--usd", "0.01")
    assert poor.code == 2
    assert "the budget holds no plan at all; the cheapest there is: $" in poor.stdout
    assert "the budget does not hold it" in poor.stdout


def test_size_names_a_span_that_is_none_and_a_file_without_gpus() -> None:
    asked = ("cluster", "size", "cluster-configs/aws-cpu.yaml", "--trials", "9", "--trial")
    assert "soon is no time span; write it like 30m" in run_here(FOLDER.parent, *asked, "soon", "--within", "1h").stderr
    done = run_here(FOLDER.parent, *asked, "1h", "--within", "2h", "--gpu")
    assert done.code == 2
    assert done.complaint.startswith(
        "FILE = cluster-configs/aws-cpu.yaml has no worker type with a price that holds a GPU"
    )
