"""What opens a cluster: the token that each client and machine shows, and certificates for TLS between the machines."""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from mlcluster.errors import SpecError

TOKEN_FILE = Path("~/.ray/auth_token")
"""Where Ray looks for the token, if no variable says otherwise."""
TLS_FILES = ("ca.crt", "node.crt", "node.key")
_TOKEN_BYTES = 32
_VALID_DAYS = 825
_EARLY = timedelta(hours=1)
"""Clocks of machines differ."""


def write_token(path: Path) -> Path:
    """A new random token of 256 bits, 0600.

    Raises:
        SpecError: the file is there already.
    """
    _write_new(path, secrets.token_hex(_TOKEN_BYTES).encode(), key="FILE")
    return path


def write_tls(folder: Path, addresses: Sequence[str]) -> list[Path]:
    """Certificates for machines of these addresses, 0600: `ca.crt`, and `node.crt` with `node.key` for all of them.

    Ray asks of each connection, both ways, a certificate that the CA has signed, and of a server one that bears the
    address at which it was called. The CA's key is used once and kept nowhere: nobody can sign another certificate.

    Raises:
        SpecError: an address is none, or a file is there already.
    """
    names = [x509.DNSName("localhost"), *(x509.IPAddress(_address(text)) for text in ("127.0.0.1", *addresses))]
    ca_key, node_key = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    authority = _Authority(key=ca_key, name=_named("mlcluster CA"))
    written = {
        "ca.crt": authority.signed(ca_key, authority.name, x509.BasicConstraints(ca=True, path_length=0)),
        "node.crt": authority.signed(node_key, _named("mlcluster node"), x509.SubjectAlternativeName(names)),
        "node.key": node_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    }
    for name in TLS_FILES:
        _write_new(folder / name, written[name], key="FOLDER")
    return [folder / name for name in TLS_FILES]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise SpecError(f"ADDRESS = {text} is no IP address; give those of the cluster file.") from error


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Authority:
    key: EllipticCurvePrivateKey
    name: x509.Name

    def signed(self, key: EllipticCurvePrivateKey, subject: x509.Name, extension: x509.ExtensionType) -> bytes:
        """The certificate of a key, as PEM."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _EARLY)
            .not_valid_after(now + timedelta(days=_VALID_DAYS))
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        )
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.PEM)


def _write_new(path: Path, content: bytes, *, key: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise SpecError(f"{key} = {path} is there already; remove it first, or name another one.") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
