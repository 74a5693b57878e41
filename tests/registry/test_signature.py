"""A bundle says who made it, and one by nobody who is trusted is refused before it is parsed."""

from __future__ import annotations

import base64
import json
import shutil
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcluster.errors import BundleError, SpecError
from mlcluster.registry import Bundle, SigningKey, TrustedKeys
from mlcluster.registry.signature import SIGNATURE, write_key_pair
from tests.registry.bundles import sample_bundle


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pairs `ours` and `theirs`."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        write_key_pair(folder / name)
    return folder


def signing(keys: Path, name: str = "ours") -> SigningKey:
    return SigningKey.read(keys / name, key="serve.signing_key")


def trusted(keys: Path, *names: str) -> TrustedKeys | None:
    return TrustedKeys.read([keys / f"{name}.pub" for name in names], key="serve.trusted_keys")


def test_a_signed_bundle_reads_back_equal_and_its_digest_is_that_of_the_unsigned(keys: Path, tmp_path: Path) -> None:
    signed = sample_bundle().signed(signing(keys))
    signed.write(tmp_path / "bundle")
    assert (tmp_path / "bundle" / SIGNATURE).is_file()
    assert Bundle.read(tmp_path / "bundle", trusted=trusted(keys, "theirs", "ours")) == signed
    assert Bundle.read(tmp_path / "bundle") == signed
    assert signed.digest == sample_bundle().digest
    assert signed.with_version("9").signature is None


def test_without_a_signature_or_by_another_key_it_is_refused_where_keys_are_trusted(keys: Path) -> None:
    plain, foreign = sample_bundle(), sample_bundle().signed(signing(keys, "theirs"))
    assert Bundle.from_files(plain.files(), trusted=trusted(keys)) == plain
    with pytest.raises(BundleError, match=r"manifest\.sig is missing, and serve\.trusted_keys asks for one"):
        Bundle.from_files(plain.files(), trusted=trusted(keys, "ours"))
    with pytest.raises(BundleError, match=r"is none of serve\.trusted_keys; trust that key"):
        Bundle.from_files(foreign.files(), trusted=trusted(keys, "ours"))


def test_a_bundle_that_was_altered_and_hashed_anew_is_refused(keys: Path) -> None:
    signed = sample_bundle().signed(signing(keys))
    altered = replace(signed, evidence={"verdict": "passed, says who can write the folder"})
    for key_set in (None, trusted(keys, "ours")):
        with pytest.raises(BundleError, match="was altered after it was signed"):
            Bundle.from_files(altered.files(), trusted=key_set)


def test_a_signature_under_the_name_of_a_trusted_key_is_refused(keys: Path) -> None:
    files = sample_bundle().signed(signing(keys, "theirs")).files()
    document = json.loads(files[SIGNATURE])
    document["key"] = base64.b64encode(signing(keys).public).decode()
    files[SIGNATURE] = json.dumps(document).encode()
    with pytest.raises(BundleError, match="is not of this manifest"):
        Bundle.from_files(files, trusted=trusted(keys, "ours"))


@given(data=st.data())
@settings(suppress_health_check=list(HealthCheck), max_examples=60)
def test_a_damaged_signature_is_a_bundle_error(keys: Path, data: st.DataObject) -> None:
    files = sample_bundle().signed(signing(keys)).files()
    place = data.draw(st.integers(0, len(files[SIGNATURE]) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != files[SIGNATURE][place]))
    files[SIGNATURE] = files[SIGNATURE][:place] + bytes([byte]) + files[SIGNATURE][place + 1 :]
    with pytest.raises(BundleError):
        Bundle.from_files(files, trusted=trusted(keys, "ours"))


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"{}", b"\xff", b"[" * 4000, b'{"format": 1}'])
def test_what_is_no_signature_is_said_to_be_none(keys: Path, content: bytes) -> None:
    with pytest.raises(BundleError, match=r"manifest\.sig is no signature of the format"):
        Bundle.from_files({**sample_bundle().files(), SIGNATURE: content})


def test_a_private_key_is_its_owners_alone_and_is_never_replaced(keys: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE((keys / "ours").stat().st_mode) == 0o600
    assert b"PRIVATE" not in (keys / "ours.pub").read_bytes()
    with pytest.raises(SpecError, match=r"cannot be written \(File exists\); choose another name"):
        write_key_pair(keys / "ours")
    shutil.copy(keys / "ours", tmp_path / "open")
    (tmp_path / "open").chmod(0o640)
    with pytest.raises(SpecError, match="can be read by others; close it with: chmod 600"):
        SigningKey.read(tmp_path / "open", key="serve.signing_key")


@pytest.mark.parametrize(
    ("read", "complaint"),
    [
        (lambda keys: SigningKey.read(keys / "none", key="serve.signing_key"), "No such file or directory"),
        (lambda keys: SigningKey.read(keys / "ours.pub", key="serve.signing_key"), "it is no PEM file of a key"),
        (lambda keys: TrustedKeys.read([keys / "ours"], key="serve.trusted_keys"), "it is no PEM file of a key"),
    ],
)
def test_a_file_that_is_no_such_key_is_named_with_its_setting(keys: Path, read, complaint: str) -> None:
    with pytest.raises(SpecError, match=r"^serve\.(signing_key|trusted_keys) = .*" + complaint):
        read(keys)


def test_openssl_makes_keys_that_sign_and_checks_signatures(keys: Path, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl here")
    made, public = tmp_path / "made", tmp_path / "made.pub"
    subprocess.run([openssl, "genpkey", "-algorithm", "ed25519", "-out", made], check=True, timeout=30)
    made.chmod(0o600)
    subprocess.run([openssl, "pkey", "-in", made, "-pubout", "-out", public], check=True, timeout=30)
    signed = sample_bundle().signed(SigningKey.read(made, key="serve.signing_key"))
    assert Bundle.from_files(signed.files(), trusted=TrustedKeys.read([public], key="serve.trusted_keys")) == signed
    signed.write(tmp_path / "bundle")
    raw = tmp_path / "raw"
    raw.write_bytes(base64.b64decode(json.loads(signed.files()[SIGNATURE])["signature"]))
    check = [
        openssl,
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        public,
        "-rawin",
        "-in",
        tmp_path / "bundle/manifest.json",
    ]
    subprocess.run([*check, "-sigfile", raw], check=True, timeout=30, capture_output=True)
