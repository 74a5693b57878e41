"""The keys of a cluster: nobody else may read them, none is replaced, and the certificates hold both ways."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path

import pytest

from tests.cli.projects import run_here


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_token_is_new_each_time_and_its_owners_alone(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run_here(tmp_path, "key", "token", f"keys/{name}").code == 0
        assert mode_of(tmp_path / "keys" / name) == 0o600
    one, two = ((tmp_path / "keys" / name).read_text() for name in ("one", "two"))
    assert one != two
    assert len(bytes.fromhex(one)) == 32
    assert mode_of(tmp_path / "keys") == 0o700


def test_a_token_goes_where_ray_looks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run_here(tmp_path, "key", "token").code == 0
    assert (tmp_path / ".ray" / "auth_token").is_file()


def test_no_key_is_replaced(tmp_path: Path) -> None:
    run_here(tmp_path, "key", "token", "token")
    before = (tmp_path / "token").read_text()
    assert run_here(tmp_path, "key", "token", "token").complaint == (
        "FILE = token is there already; remove it first, or name another one."
    )
    assert (tmp_path / "token").read_text() == before
    run_here(tmp_path, "key", "tls", "tls", "192.0.2.10")
    refused = run_here(tmp_path, "key", "tls", "tls", "192.0.2.10")
    assert refused.complaint == "FOLDER = tls/ca.crt is there already; remove it first, or name another one."


def test_what_is_no_address_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    refused = run_here(tmp_path, "key", "tls", "tls", "192.0.2.10", "head.example")
    assert refused.code == 2
    assert refused.complaint == "ADDRESS = head.example is no IP address; give those of the cluster file."
    assert not (tmp_path / "tls").exists()


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    assert run_here(tmp_path, "key", "tls", "tls", "192.0.2.10", "192.0.2.11").code == 0
    return tmp_path / "tls"


def test_the_cas_key_is_not_kept_and_the_others_are_their_owners_alone(certificates: Path) -> None:
    assert {path.name: mode_of(path) for path in certificates.iterdir()} == {
        "ca.crt": 0o600,
        "node.crt": 0o600,
        "node.key": 0o600,
    }


def context(folder: Path, purpose: ssl.Purpose) -> ssl.SSLContext:
    """As a node of the cluster has it, at either end."""
    found = ssl.create_default_context(purpose, cafile=str(folder / "ca.crt"))
    found.load_cert_chain(folder / "node.crt", folder / "node.key")
    if purpose == ssl.Purpose.CLIENT_AUTH:
        found.verify_mode = ssl.CERT_REQUIRED
    return found


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, *, address: str) -> bytes:
    """What the client reads from a server that it calls by this address."""
    left, right = socket.socketpair()

    def serve() -> None:
        with contextlib.suppress(OSError), left, server.wrap_socket(left, server_side=True) as wrapped:
            wrapped.sendall(b"hello")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with right, client.wrap_socket(right, server_hostname=address) as wrapped:
            return wrapped.recv(5)
    finally:
        thread.join(10)


@pytest.mark.parametrize("address", ["192.0.2.10", "192.0.2.11", "127.0.0.1", "localhost"])
def test_each_machine_is_known_by_its_address(certificates: Path, address: str) -> None:
    server, client = context(certificates, ssl.Purpose.CLIENT_AUTH), context(certificates, ssl.Purpose.SERVER_AUTH)
    assert handshake(server, client, address=address) == b"hello"


def test_a_machine_at_another_address_is_not_believed(certificates: Path) -> None:
    server, client = context(certificates, ssl.Purpose.CLIENT_AUTH), context(certificates, ssl.Purpose.SERVER_AUTH)
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        handshake(server, client, address="192.0.2.12")


def test_a_client_of_another_set_of_certificates_is_refused(certificates: Path, tmp_path: Path) -> None:
    run_here(tmp_path, "key", "tls", "theirs", "192.0.2.10")
    server, client = (
        context(certificates, ssl.Purpose.CLIENT_AUTH),
        context(tmp_path / "theirs", ssl.Purpose.SERVER_AUTH),
    )
    client.load_verify_locations(certificates / "ca.crt")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        assert handshake(server, client, address="192.0.2.10") != b"hello"
        raise ConnectionError
