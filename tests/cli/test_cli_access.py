"""Who may ask the endpoint, by the project file: what `key api` makes, and what is refused before anything starts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mlcluster.cluster.keys import write_tls
from tests.cli.projects import make_project, run_here

PLAIN = """
    project: demo
    data: {source: data/table.parquet, target: answer, exclude: [amount, empty, constant]}
    serve:
"""


def test_a_key_is_shown_once_listed_without_its_secret_and_revoked(tmp_path: Path) -> None:
    made = run_here(tmp_path, "key", "api", "anna", "--per-second", "10", "--per-day", "1000")
    assert made.code == 0
    assert re.fullmatch(r"mlc_[\w-]{43}\n", made.stdout)
    assert "shown once" in made.stderr
    assert run_here(tmp_path, "key", "api", "ben").code == 0
    listed = run_here(tmp_path, "key", "api")
    assert listed.stdout.splitlines() == ["anna 10/s 1000/day", "ben"]
    file = tmp_path / "api-keys.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert made.stdout.strip() not in file.read_text()
    assert "anna has a key already" in run_here(tmp_path, "key", "api", "anna").complaint
    assert run_here(tmp_path, "key", "api", "anna", "--revoke").code == 0
    assert [one["name"] for one in json.loads(file.read_text())] == ["ben"]
    assert "anna has no key" in run_here(tmp_path, "key", "api", "anna", "--revoke").complaint


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ("host: 0.0.0.0", "host = 0.0.0.0, which others reach, and no api_keys; make a key with `mlcluster key api"),
        ("host: example.org", "host = example.org, which is no IP address"),
        ("api_keys: none.json", "none.json is not there; make a key with `mlcluster key api NAME`"),
        ("api_keys: bad.json", "bad.json holds no keys"),
        ("grpc_port: 8001", "grpc_port, and replicas from 0 on, which gRPC cannot wake; say replicas: 1..4"),
        ("tls_key: node.key", "one of tls_certificate and tls_key; give both, or neither"),
        ("{tls_key: no.key, tls_certificate: tls/node.crt}", "no.key is not there"),
        ("{tls_key: open.key, tls_certificate: tls/node.crt}", "open.key can be read by others; say `chmod 600"),
        ("{tls_key: tls/node.key, tls_certificate: tls/ca.crt}", "are no pair"),
    ],
)
def test_what_cannot_be_served_so_is_refused_with_the_plan(tmp_path: Path, settings: str, complaint: str) -> None:
    folder = make_project(
        tmp_path / "demo", PLAIN.rstrip() + f" {settings if '{' in settings else f'{{{settings}}}'}\n"
    )
    (folder / "bad.json").write_text("{}")
    write_tls(folder / "tls", ["127.0.0.1"])
    (folder / "open.key").write_text((folder / "tls" / "node.key").read_text())
    (folder / "open.key").chmod(0o644)
    planned = run_here(folder, "plan")
    assert planned.code == 2
    assert complaint in planned.complaint


def test_loopback_needs_no_key(tmp_path: Path) -> None:
    for host in ("127.0.0.1", "127.0.0.2", "'::1'"):
        folder = make_project(tmp_path / host.strip("'").replace(":", "-"), PLAIN.rstrip() + f" {{host: {host}}}\n")
        assert run_here(folder, "config").code == 0
