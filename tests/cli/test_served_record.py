"""What is kept of a deployment, so that it comes back with its head: everything but the model, whose files stay."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlcluster.cli.restore_verb import restore
from mlcluster.cli.served_record import NAME, forget_served, keep_served, read_served
from mlcluster.cli.workspace import Workspace
from mlcluster.errors import ClusterError
from mlcluster.registry import TrustedKeys
from mlcluster.serve.front.api_keys import ApiKey
from mlcluster.serve.front.plan import FrontAccess
from mlcluster.serve.plan import Neighbours, OtherBundle, ServePlan
from tests.registry.bundles import sample_bundle

PLAN = ServePlan(
    name="demo",
    bundle_files={"model.onnx": b"\xff" * 1000},
    trusted=TrustedKeys(keys=frozenset({bytes(range(224, 256))})),
    min_replicas=2,
    port=8443,
    records_folder="/home/ray/.mlcluster/demo/predictions",
    access=FrontAccess(keys=(ApiKey(name="app", sha256="0" * 64, per_second=5),), certificate="-----BEGIN"),
)


def workspace(home: Path, name: str) -> Workspace:
    return Workspace(root=home / name)


def test_a_deployment_is_read_back_as_it_was_but_for_the_models_files(tmp_path: Path) -> None:
    keep_served(workspace(tmp_path, "demo"), PLAN, bundle=tmp_path / "bundle-3", run="0001-0123456789ab")
    (record,) = read_served(tmp_path)
    assert record.plan.bundle_files == {}
    assert record.plan.access == PLAN.access
    assert record.plan.trusted == PLAN.trusted
    assert (record.plan.port, record.plan.min_replicas) == (8443, 2)
    assert (record.bundle, record.run) == ((tmp_path / "bundle-3").resolve(), "0001-0123456789ab")
    # It has the private key of the certificate in it.
    assert stat.S_IMODE((tmp_path / "demo" / NAME).stat().st_mode) == 0o600


def test_the_models_beside_it_come_back_too(tmp_path: Path) -> None:
    own, other = sample_bundle(version="4"), sample_bundle("regression", version="3")
    own.write(tmp_path / "bundle-4")
    neighbours = Neighbours(others=(OtherBundle.of(other, aliases=("challenger",)),), max_bytes=10**7)
    plan = replace(PLAN, trusted=None, bundle_files=own.files(), neighbours=neighbours)
    keep_served(workspace(tmp_path, "demo"), plan, bundle=tmp_path / "bundle-4", run="r")
    (record,) = read_served(tmp_path)
    assert record.whole_plan() == plan


def test_all_projects_of_a_head_come_back_and_one_that_was_ended_does_not(tmp_path: Path) -> None:
    for name in ("income", "demo"):
        keep_served(workspace(tmp_path, name), PLAN, bundle=tmp_path / name, run="r")
    assert [record.bundle.name for record in read_served(tmp_path)] == ["demo", "income"]
    forget_served(workspace(tmp_path, "demo"))
    forget_served(workspace(tmp_path, "demo"))
    assert [record.bundle.name for record in read_served(tmp_path)] == ["income"]


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    keep_served(workspace(tmp_path, "demo"), PLAN, bundle=tmp_path, run="r")
    (tmp_path / "demo" / NAME).write_text("{}")
    with pytest.raises(ClusterError, match=r"demo/served.json is no record of a deployment; remove it"):
        list(read_served(tmp_path))


def test_where_nothing_was_served_the_verb_needs_no_cluster(tmp_path: Path) -> None:
    env = {"MLCLUSTER_HOME": str(tmp_path), "RAY_ADDRESS": "127.0.0.1:1"}
    ran = CliRunner().invoke(restore, env=env)
    assert (ran.exit_code, ran.stderr) == (0, "nothing was served here\n")
