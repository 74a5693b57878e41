"""Who made a bundle: an Ed25519 signature (RFC 8032) over its manifest, which holds the hashes of all other files.

Keys are PEM files as OpenSSL writes them. A signature names the key that made it, and whoever reads a bundle says which
keys it trusts: a signature of another key is worth no more than none.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from mlcluster.errors import BundleError, SpecError

SIGNATURE = "manifest.sig"
"""The file of a bundle that holds its signature."""
_FORMAT = "mlcluster-signature/1"
_OTHERS = 0o077


@dataclass(frozen=True, kw_only=True, slots=True)
class SigningKey:
    """A private key, which signs bundles."""

    private: Ed25519PrivateKey

    @property
    def public(self) -> bytes:
        """The raw public key, 32 bytes."""
        return _raw(self.private.public_key())

    @classmethod
    def read(cls, path: Path, *, key: str) -> SigningKey:
        """The key in a PEM file; `key` is the setting that names it.

        Raises:
            SpecError: it cannot be read, is of another kind, or others may read it too.
        """
        what = f"{key} = {path}"
        loaded = _loaded(path, what, lambda data: load_pem_private_key(data, password=None))
        if not isinstance(loaded, Ed25519PrivateKey):
            raise SpecError(f"{what} is no Ed25519 key; make one with: mlcluster key signing FILE.")
        if path.stat().st_mode & _OTHERS:
            raise SpecError(f"{what} can be read by others; close it with: chmod 600 {path}.")
        return cls(private=loaded)

    def sign(self, manifest: bytes) -> bytes:
        """The contents of the file `manifest.sig`."""
        document = {
            "format": _FORMAT,
            "key": _text(self.public),
            "signature": _text(self.private.sign(manifest)),
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrustedKeys:
    """The public keys whose bundles may be served; raw, 32 bytes each."""

    keys: frozenset[bytes]

    @classmethod
    def read(cls, paths: Iterable[Path], *, key: str) -> TrustedKeys | None:
        """The keys of PEM files; None where there are none, which trusts every bundle.

        Raises:
            SpecError: one cannot be read, or is of another kind.
        """
        keys = set()
        for path in paths:
            loaded = _loaded(path, f"{key} = {path}", load_pem_public_key)
            if not isinstance(loaded, Ed25519PublicKey):
                raise SpecError(f"{key} = {path} is no Ed25519 key; give the .pub file of a signing key.")
            keys.add(_raw(loaded))
        return cls(keys=frozenset(keys)) if keys else None


def write_key_pair(path: Path) -> tuple[Path, Path]:
    """A new private key at `path`, for its owner alone, and its public key at `path`.pub, for everybody.

    Raises:
        SpecError: there is a file already, or none can be written.
    """
    public = path.with_name(path.name + ".pub")
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        for file, mode, data in (
            (path, 0o600, pem),
            (public, 0o644, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)),
        ):
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as opened:
                opened.write(data)
    except OSError as error:
        problem = f"FILE = {error.filename} cannot be written ({error.strerror})"
        raise SpecError(f"{problem}; choose another name, a key is never replaced.") from error
    return path, public


def check_signature(manifest: bytes, signature: bytes | None, trusted: TrustedKeys | None) -> None:
    """Nothing, if the signature is of these bytes and by a trusted key; with `trusted` None, any key, or no signature.

    Raises:
        BundleError: it is not.
    """
    if signature is None:
        if trusted is not None:
            raise BundleError(f"{SIGNATURE} is missing, and serve.trusted_keys asks for one; sign the bundle.")
        return
    key, signed = _parsed(signature)
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signed, manifest)
    except (InvalidSignature, ValueError) as error:
        problem = f"{SIGNATURE} is not of this manifest, which was altered after it was signed"
        raise BundleError(f"{problem}; fetch the bundle again.") from error
    if trusted is not None and key not in trusted.keys:
        problem = f"{SIGNATURE} is by the key {_text(key)}, which is none of serve.trusted_keys"
        raise BundleError(f"{problem}; trust that key, or have the bundle signed by one that is trusted.")


def _parsed(signature: bytes) -> tuple[bytes, bytes]:
    try:
        document = json.loads(signature.decode("ascii"))
        known = {name: document.pop(name) for name in ("format", "key", "signature")}
        if known["format"] == _FORMAT and not document:
            return _bytes(known["key"]), _bytes(known["signature"])
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        pass
    raise BundleError(f"{SIGNATURE} is no signature of the format {_FORMAT}; fetch the bundle again.")


def _loaded(path: Path, what: str, load: Callable[[bytes], object]) -> object:
    try:
        return load(path.read_bytes())
    except (OSError, ValueError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no PEM file of a key without a password"
        raise SpecError(f"{what} cannot be read ({reason}); make one with: mlcluster key signing FILE.") from error


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("no base64") from error
