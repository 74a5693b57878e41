"""Who may ask the endpoint, by the files that the project file names."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from mlcluster.errors import SpecError
from mlcluster.spec import ServeSpec

if TYPE_CHECKING:
    from mlcluster.serve.front.plan import FrontAccess


def read_access(serve: ServeSpec, folder: Path) -> FrontAccess:
    """The keys and the certificate, from files beside the project file.

    Raises:
        SpecError: a file is missing, is no such thing, or a private one can be read by others.
    """
    from mlcluster.serve.front.api_keys import ApiKeys
    from mlcluster.serve.front.plan import FrontAccess

    keys = None
    if serve.api_keys is not None:
        keys = ApiKeys.read(folder / serve.api_keys).keys
    return FrontAccess(keys=keys, certificate=_certificate(serve, folder))


def _certificate(serve: ServeSpec, folder: Path) -> str | None:
    if serve.tls_certificate is None or serve.tls_key is None:
        return None
    certificate, key = folder / serve.tls_certificate, folder / serve.tls_key
    for name, path in (("tls_certificate", certificate), ("tls_key", key)):
        if not path.is_file():
            raise SpecError(f"serve.{name} = {path} is not there; name a PEM file beside the project file.")
    if key.stat().st_mode & 0o077:
        raise SpecError(f"serve.tls_key = {key} can be read by others; say `chmod 600 {key}`.")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise SpecError(
            f"serve.tls_certificate = {certificate} and {key} are no pair ({error}); give a certificate and its key, "
            "both PEM, the key without a password."
        ) from error
    return f"{certificate.read_text().rstrip()}\n{key.read_text()}"


def _no_password() -> str:
    raise ValueError("the key asks for a password")
