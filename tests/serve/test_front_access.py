"""Keys, rates, quotas and TLS at the front door, with a real HAProxy and real clients."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from mlcluster.cluster.keys import write_tls
from mlcluster.errors import SpecError
from mlcluster.serve.front.api_keys import ApiKeys, sha256_of
from mlcluster.serve.front.haproxy_socket import command
from mlcluster.serve.front.plan import FrontAccess, FrontPlan
from tests.cli.test_monitoring_templates import expressions
from tests.serve.answers import eventually
from tests.serve.front_site import site

__all__ = ["site"]
pytestmark = pytest.mark.timeout(60)


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def one_key(**limits: int | None) -> tuple[FrontAccess, str]:
    keys, secret = ApiKeys().with_new("anna", **{"per_second": None, "per_day": None} | limits)
    return FrontAccess(keys=keys.keys), secret


@pytest.mark.slow
def test_a_prediction_needs_a_key_and_its_page_and_health_do_not(site) -> None:
    access, secret = one_key()
    at = site(access=access)
    at.add("a", seconds=0.0)
    refused = httpx.post(at.url, content=b"{}")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["error_code"] == "UNAUTHENTICATED"
    assert refused.headers["x-request-id"]
    for headers in (bearer(secret + "x"), {"authorization": f"Basic {secret}"}, bearer(sha256_of(secret))):
        assert httpx.post(at.url, headers=headers).status_code == 401
    for headers in (bearer(secret), {"x-api-key": secret}, {"authorization": f"bearer {secret}"}):
        assert httpx.post(at.url, headers=headers).text == "a"
    for path in ("/", "/v2/health/ready", "/docs"):
        assert httpx.get(at.url + path).status_code == 200
    for path in ("/metrics", "/metrics/front"):
        assert httpx.get(f"{at.url}{path}").status_code == 401
        assert httpx.get(f"{at.url}{path}", headers=bearer(secret)).status_code == 200


@pytest.mark.slow
def test_a_key_goes_no_farther_than_the_front_and_stands_in_no_file(site) -> None:
    access, secret = one_key()
    at = site(access=access)
    at.add("a", seconds=0.0)
    seen = httpx.post(at.url, headers=bearer(secret) | {"x-api-key": secret}).headers["x-seen-headers"]
    assert "x-request-id" in seen
    assert "authorization" not in seen
    assert "x-api-key" not in seen
    for file in at.folder.iterdir():
        if file.is_file():
            assert secret not in file.read_text(errors="replace")
            assert file.name == "front.log" or file.stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_each_key_has_its_own_rate_and_quota(site) -> None:
    keys, anna = ApiKeys().with_new("anna", per_second=3, per_day=None)
    keys, ben = keys.with_new("ben", per_second=None, per_day=4)
    at = site(access=FrontAccess(keys=keys.keys))
    at.add("a", seconds=0.0)
    with httpx.Client(headers=bearer(anna)) as client:
        answers = [client.post(at.url) for _ in range(8)]
        # A window that slides: a second may begin with a part of what the one before it had.
        assert 2 <= [answer.status_code for answer in answers].count(200) <= 4
        assert answers[-1].headers["retry-after"] == "1"
        assert "of this second" in answers[-1].json()["detail"]
        time.sleep(2.1)
        assert client.post(at.url).status_code == 200
    statuses = [httpx.post(at.url, headers=bearer(ben)) for _ in range(6)]
    assert [answer.status_code for answer in statuses] == [200] * 4 + [429] * 2
    assert statuses[-1].headers["retry-after"] == "3600"


@pytest.mark.slow
def test_a_revoked_key_is_refused_from_the_next_plan_on(site) -> None:
    keys, anna = ApiKeys().with_new("anna", per_second=None, per_day=None)
    keys, ben = keys.with_new("ben", per_second=None, per_day=None)
    at = site(access=FrontAccess(keys=keys.keys))
    at.add("a", seconds=0.0)
    left = keys.without("anna").keys
    plan = FrontPlan(
        public=at.plan.public, waiting_room=at.plan.waiting_room, num_slots=4, access=FrontAccess(keys=left)
    )
    at.door.reopen(plan)
    deadline = time.monotonic() + 5
    while httpx.post(at.url, headers=bearer(anna)).status_code == 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert httpx.post(at.url, headers=bearer(anna)).status_code == 401
    assert httpx.post(at.url, headers=bearer(ben)).status_code == 200


@pytest.mark.slow
def test_what_a_key_has_spent_stays_spent_when_other_keys_and_limits_are_taken_up(site) -> None:
    keys, anna = ApiKeys().with_new("anna", per_second=None, per_day=4)
    at = site(access=FrontAccess(keys=keys.keys))
    at.add("a", seconds=0.0)
    assert [httpx.post(at.url, headers=bearer(anna)).status_code for _ in range(5)] == [200] * 4 + [429]
    # The first process of all waits five seconds to be told by a former one.
    assert eventually(lambda: "resync_timeout=<PAST>" in command(at.folder / "admin.sock", ["show peers"]))
    for name in ("ben", "cleo"):
        keys, secret = keys.with_new(name, per_second=None, per_day=None)
        at.door.reopen(replace(at.plan, access=FrontAccess(keys=keys.keys)))
        assert eventually(lambda secret=secret: httpx.post(at.url, headers=bearer(secret)).status_code == 200)
        assert httpx.post(at.url, headers=bearer(anna)).status_code == 429


@pytest.mark.slow
def test_with_a_certificate_it_speaks_tls_alone(site, tmp_path: Path) -> None:
    write_tls(tmp_path / "tls", ["127.0.0.1"])
    certificate = "".join((tmp_path / "tls" / name).read_text() for name in ("node.crt", "node.key"))
    at = site(access=FrontAccess(certificate=certificate))
    at.add("a", seconds=0.0)
    trusting = ssl.create_default_context(cafile=tmp_path / "tls" / "ca.crt")
    url = at.url.replace("http:", "https:")
    assert httpx.post(url, verify=trusting).text == "a"
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        httpx.post(url)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(at.url)
    asked = ("--http2", "--cacert", tmp_path / "tls" / "ca.crt", "-o", "/dev/null", "-w", "%{http_version}")
    curl = ("curl", "-s", *asked)
    assert subprocess.run([*curl, "-d", "{}", url], capture_output=True, text=True, check=True).stdout == "2"
    old = subprocess.run([*curl, "--tls-max", "1.1", url], capture_output=True, text=True, check=False)
    assert (old.returncode, old.stdout) == (35, "0")


def test_a_file_of_keys_has_hashes_and_is_its_owners_alone(tmp_path: Path) -> None:
    keys, secret = ApiKeys().with_new("anna", per_second=5, per_day=None)
    keys.write(tmp_path / "keys.json")
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600
    text = (tmp_path / "keys.json").read_text()
    assert secret not in text
    assert json.loads(text) == [{"name": "anna", "sha256": sha256_of(secret), "per_second": 5, "per_day": None}]
    assert ApiKeys.read(tmp_path / "keys.json").keys == keys.keys
    assert ApiKeys().with_new("anna", per_second=5, per_day=None)[1] != secret


@pytest.mark.parametrize("text", ["{", "{}", '[{"name": "a b", "sha256": ""}]', '[{"name": "a"}]', '[{"nam": 1}]'])
def test_what_holds_no_keys_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.json").write_text(text)
    with pytest.raises(SpecError, match=r"serve\.api_keys = .*keys\.json holds no keys"):
        ApiKeys.read(tmp_path / "keys.json")


def test_names_are_told_apart() -> None:
    keys, _ = ApiKeys().with_new("anna", per_second=None, per_day=None)
    with pytest.raises(SpecError, match="anna has a key already"):
        keys.with_new("anna", per_second=None, per_day=None)
    with pytest.raises(SpecError, match="no name of a key"):
        keys.with_new("a b", per_second=None, per_day=None)
    with pytest.raises(SpecError, match="ben has no key; those there are: anna"):
        keys.without("ben")


@pytest.mark.slow
def test_the_front_tells_what_dashboard_and_rules_ask_of_it(site) -> None:
    at = site(grpc=True, others={"bikes": "bikes/1"})
    at.add("a", seconds=0.0)
    for path in ("", "/v2/models/bikes/infer"):
        assert httpx.post(f"{at.url}{path}").status_code == 200
    told = httpx.get(f"{at.url}/metrics/front", params={"scope": "backend"}).text
    asked = {pair for text in expressions() for pair in re.findall(r"(haproxy_\w+)\{proxy=~\"([a-z|]+)\"", text)}
    assert len(asked) == 2
    for name, backends in asked:
        for backend in backends.split("|"):
            assert re.search(rf'^{name}\{{proxy="{backend}"', told, re.MULTILINE), (name, backend)
    for backend in ("model", "others"):
        counted = rf'^haproxy_backend_http_responses_total\{{proxy="{backend}",code="2xx"\}} 1$'
        assert re.search(counted, told, re.MULTILINE)
