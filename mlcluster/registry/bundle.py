"""The served artifact: a handful of data files that say everything and execute nothing.

A bundle is read from places that others can write to. So the names, sizes and hashes of its files are checked against
its manifest before any of them is parsed; what is parsed is JSON and ONNX with standard operators only; and whatever
is left over, missing or unknown is refused rather than ignored. No file of a bundle is ever unpickled or imported.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcluster.data import ReferenceProfile, TableSchema, Transform
from mlcluster.errors import BundleError, DataError
from mlcluster.registry.onnx_check import check_onnx
from mlcluster.registry.signature import SIGNATURE, SigningKey, TrustedKeys, check_signature

FORMAT = "mlcluster-bundle/1"
MANIFEST = "manifest.json"
MODEL = "model.onnx"
REFERENCE = "reference.json"
_MIB = 2**20
SIZE_LIMITS: Mapping[str, int] = {
    MANIFEST: _MIB,
    MODEL: 1024 * _MIB,
    "transform.json": 64 * _MIB,
    "schema.json": 16 * _MIB,
    "card.json": 16 * _MIB,
    "input_example.json": 16 * _MIB,
    "evidence.json": 64 * _MIB,
    REFERENCE: 64 * _MIB,
    SIGNATURE: 4096,
}
"""Bytes that each file may have; its keys are all the files that a bundle has."""
_OPTIONAL = {REFERENCE, SIGNATURE}
"""Files of earlier bundles lack the first, and only signed ones have the second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """Where the model comes from and how well it does; `version` is None until it is registered."""

    name: str
    version: str | None
    family: str
    task: str
    metric: str
    validation: dict[str, float]
    test: dict[str, float]
    trial_id: str
    study_id: str
    configuration: dict[str, Any]
    snapshot_digest: str
    code_version: str
    run_id: str
    spent_usd: float
    created_at: str
    """ISO 8601, UTC."""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A model with its transform, its columns and its evidence: all that serving needs, and no code."""

    model: bytes
    """ONNX, as `to_onnx` writes it."""
    transform: Transform
    schema: TableSchema
    card: ModelCard
    input_example: tuple[dict[str, Any], ...]
    """Rows of raw feature columns, as JSON values."""
    evidence: dict[str, Any]
    reference: ReferenceProfile | None = None
    """What live requests are compared with; earlier bundles have none."""
    signature: bytes | None = None
    """The contents of `manifest.sig`; of these very files, so that a bundle with other parts needs another."""

    def files(self) -> dict[str, bytes]:
        """The bundle's files by name, the manifest with their sizes and hashes among them.

        Raises:
            BundleError: a part holds something that is not JSON, such as NaN.
        """
        files = {
            MODEL: self.model,
            "transform.json": canonical_json(self.transform.to_json(), name="transform.json"),
            "schema.json": canonical_json(self.schema.to_json(), name="schema.json"),
            "card.json": canonical_json(self.card.to_json(), name="card.json"),
            "input_example.json": canonical_json(list(self.input_example), name="input_example.json"),
            "evidence.json": canonical_json(self.evidence, name="evidence.json"),
        }
        if self.reference is not None:
            files[REFERENCE] = canonical_json(self.reference.to_json(), name=REFERENCE)
        entries = {name: {"sha256": _sha256(data), "size": len(data)} for name, data in files.items()}
        files[MANIFEST] = canonical_json({"format": FORMAT, "files": entries}, name=MANIFEST)
        return files if self.signature is None else files | {SIGNATURE: self.signature}

    def signed(self, key: SigningKey) -> Bundle:
        """The same bundle with the signature of that key."""
        return dataclasses.replace(self, signature=key.sign(self.files()[MANIFEST]))

    @property
    def digest(self) -> str:
        """The SHA-256 of the manifest, which holds those of all other files."""
        return digest_of(self.files())

    def with_version(self, version: str) -> Bundle:
        """The same bundle under the version that the registry gave it, unsigned."""
        return dataclasses.replace(self, card=dataclasses.replace(self.card, version=version), signature=None)

    def write(self, folder: Path) -> None:
        """The files in `folder`, which is made; the manifest is written last, so half a bundle is no bundle.

        Raises:
            BundleError: the folder already holds something.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise BundleError(f"{folder.name} already holds files; write a bundle into a new folder.")
        for name, data in self.files().items():
            (folder / name).write_bytes(data)

    @classmethod
    def read(cls, folder: Path, *, trusted: TrustedKeys | None = None) -> Bundle:
        """The bundle in `folder`, which one of the `trusted` keys must have signed, if they are given.

        Raises:
            BundleError: a file is missing, foreign, too large, damaged, altered or signed by nobody who is trusted;
                nothing in it was run.
        """
        return cls.from_files(_read_files(folder), trusted=trusted)

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], *, trusted: TrustedKeys | None = None) -> Bundle:
        """The bundle whose files these are; see `read`."""
        _check_files(files)
        check_signature(files[MANIFEST], files.get(SIGNATURE), trusted)
        parts = {name: _parse_json(name, files[name]) for name in files if name.endswith(".json")}
        transform = _build("transform.json", Transform.from_json, parts["transform.json"])
        schema = _build("schema.json", TableSchema.from_json, parts["schema.json"])
        card = _build("card.json", lambda value: ModelCard(**value), parts["card.json"])
        if tuple(column.name for column in transform.columns) != schema.feature_names:
            raise BundleError("transform.json is of other columns than schema.json; build the bundle again.")
        num_inputs = _build("transform.json", lambda fitted: fitted.num_outputs, transform)
        check_onnx(files[MODEL], name=MODEL, num_inputs=num_inputs, num_outputs=len(schema.target.classes) or 1)
        reference = None
        if REFERENCE in parts:
            reference = _build(REFERENCE, ReferenceProfile.from_json, parts[REFERENCE])
        example = parts["input_example.json"]
        if not isinstance(example, list) or not all(isinstance(row, dict) for row in example):
            raise BundleError("input_example.json holds no list of rows; build the bundle again.")
        if not isinstance(parts["evidence.json"], dict):
            raise BundleError("evidence.json holds no mapping; build the bundle again.")
        return cls(
            model=files[MODEL],
            transform=transform,
            schema=schema,
            card=card,
            input_example=tuple(example),
            evidence=parts["evidence.json"],
            reference=reference,
            signature=files.get(SIGNATURE),
        )


def canonical_json(value: Any, *, name: str) -> bytes:
    """The one way to write `value`: sorted keys, no spaces, UTF-8.

    Raises:
        BundleError: the value is not JSON; the message names `name`.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError) as error:
        raise BundleError(
            f"{name} would hold what JSON cannot ({error}); give finite numbers and plain values."
        ) from error


def _read_files(folder: Path) -> dict[str, bytes]:
    if not folder.is_dir():
        raise BundleError(f"{folder.name} is no folder; give the folder of a bundle.")
    files: dict[str, bytes] = {}
    for path in sorted(folder.iterdir()):
        _check_name(path.name)
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{path.name} is no plain file; a bundle holds no links and no folders.")
        _check_size(path.name, status.st_size)
        files[path.name] = path.read_bytes()
    return files


def _check_name(name: str) -> None:
    if name not in SIZE_LIMITS:
        raise BundleError(f"{name!r} is no file of a bundle; remove it, or fetch the bundle again.")


def _check_size(name: str, num_bytes: int) -> None:
    if num_bytes > SIZE_LIMITS[name]:
        raise BundleError(f"{name} has {num_bytes} bytes, above its limit of {SIZE_LIMITS[name]}; it is not read.")


def _check_files(files: Mapping[str, bytes]) -> None:
    """Names, sizes and hashes, in that order; only the manifest is parsed here."""
    for name, data in files.items():
        _check_name(name)
        _check_size(name, len(data))
    for name in SIZE_LIMITS:
        if name not in files and name not in _OPTIONAL:
            raise BundleError(f"{name} is missing from the bundle; fetch the bundle again.")
    entries = _manifest_entries(files[MANIFEST])
    if entries.keys() != files.keys() - {MANIFEST, SIGNATURE}:
        raise BundleError(f"{MANIFEST} does not list the files of a bundle; fetch the bundle again.")
    for name in sorted(files.keys() - {MANIFEST, SIGNATURE}):
        size, digest = entries[name]
        if len(files[name]) != size:
            raise BundleError(f"{name} has {len(files[name])} bytes, its manifest says {size}; fetch the bundle again.")
        if _sha256(files[name]) != digest:
            raise BundleError(
                f"{name} was damaged or altered (its SHA-256 is not the manifest's); fetch the bundle again."
            )


def _manifest_entries(data: bytes) -> dict[str, tuple[int, str]]:
    """Size and hash by file name, for files of a bundle."""
    manifest = _parse_json(MANIFEST, data)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"{MANIFEST} is not of the format {FORMAT}; read it with the mlcluster that wrote it.")
    entries = manifest.get("files")
    if (
        set(manifest) != {"format", "files"}
        or not isinstance(entries, dict)
        or not set(entries) <= set(SIZE_LIMITS) - {MANIFEST, SIGNATURE}
    ):
        raise BundleError(f"{MANIFEST} does not list the files of a bundle; fetch the bundle again.")
    try:
        return {name: (int(entry["size"]), str(entry["sha256"])) for name, entry in entries.items()}
    except (TypeError, KeyError, ValueError) as error:
        raise BundleError(f"{MANIFEST} lists a file without its size or hash; fetch the bundle again.") from error


def _parse_json(name: str, data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{name} is not JSON; fetch the bundle again.") from error


def _refuse_constant(token: str) -> Any:
    raise ValueError(f"{token} is not JSON")


def _build(name: str, build: Any, value: Any) -> Any:
    try:
        return build(value)
    except (TypeError, KeyError, ValueError, AttributeError, IndexError, DataError) as error:
        raise BundleError(f"{name} does not describe what it should ({error!r}); build the bundle again.") from error


def digest_of(files: Mapping[str, bytes]) -> str:
    """The digest of the bundle whose files these are, unchecked; of files without a manifest, that of an empty one."""
    return _sha256(files.get(MANIFEST, b""))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
