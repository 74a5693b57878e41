"""The data that a study learns from, frozen in a folder and named by its content.

manifest.json       files with sizes and hashes, schema, split rule, counts, findings, the digest
transforms.json     the fitted transforms
quarantine.parquet  rows that broke an expectation, with the reason
train/ validation/ test/
    part-00000.parquet   raw columns, one file a source block
    ordinal-00000.npy    the encoded matrix of the same rows, and the target as numbers
    dense-00000.npy
    target-00000.npy
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mlcluster.data.findings import Finding
from mlcluster.data.folders import write_json
from mlcluster.data.schema import TableSchema
from mlcluster.data.source import plain_table
from mlcluster.data.split import SPLITS
from mlcluster.data.transform import Encoding, Transform
from mlcluster.data.written import MANIFEST, TRANSFORMS, reading_back, refuse_changed_bytes, refuse_changed_size
from mlcluster.errors import DataError

_QUARANTINE = "quarantine.parquet"

Matrices = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64] | npt.NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class DatasetSnapshot:
    """What exactly is learned from. `manifest["identity"]` is what the digest is of."""

    name: str
    digest: str
    """SHA-256 (hex) of the content: equal for equal files, roles, split and transforms, wherever it was made."""
    folder: Path
    schema: TableSchema
    transforms: Mapping[str, Transform]
    """By encoding: `ordinal` and `dense`."""
    num_rows: Mapping[str, int]
    findings: tuple[Finding, ...]
    quarantined: int
    manifest: Mapping[str, Any]

    def table(self, split: str, *, max_rows: int | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """The raw rows of a split, or its first `max_rows`: features, target and sensitive columns, or only `columns`.

        Raises:
            DataError: the split is unknown, or its files are damaged or not those that were written.
        """
        paths = self._parts(split, "part", "parquet")
        try:
            tables: list[pa.Table] = []
            for path in paths:
                if max_rows is None or sum(table.num_rows for table in tables) < max_rows:
                    self._refuse_changed([path])
                    tables.append(plain_table(pq.read_table(path, columns=columns, partitioning=None)))
            return pa.concat_tables(tables).slice(0, max_rows)
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(split, error) from error

    def matrices(self, split: str, encoding: Encoding) -> Matrices:
        """X float32 (n, d), and y (n,): class indices int64, or values float64. Rows as in `table`.

        Raises:
            DataError: the split is unknown, or its files are damaged or not those that were written.
        """
        if encoding not in self.transforms:
            raise DataError(f"encoding = {encoding} is unknown; use one of {', '.join(self.transforms)}.")
        try:
            paths = self._parts(split, encoding, "npy"), self._parts(split, "target", "npy")
            self._refuse_changed([*paths[0], *paths[1]])
            features, targets = ([np.load(path, allow_pickle=False) for path in each] for each in paths)
        except (OSError, ValueError) as error:
            raise self._damaged(split, error) from error
        return np.ascontiguousarray(np.concatenate(features)), np.concatenate(targets)

    def quarantine(self) -> pa.Table:
        """The rows that broke an expectation, as they stood in the source, with a column `reason`."""
        return pq.read_table(self.folder / _QUARANTINE)

    def with_parent(self, digest: str | None) -> DatasetSnapshot:
        """The same data, and in its manifest which snapshot came before; the digest hangs on the data alone."""
        later = replace(self, manifest={**self.manifest, "parent": digest})
        later.save()
        return later

    def save(self) -> Path:
        """Write manifest and transforms beside the data; returns the manifest's path."""
        transforms = {name: transform.to_json() for name, transform in self.transforms.items()}
        write_json(self.folder / TRANSFORMS, transforms)
        write_json(self.folder / MANIFEST, self.manifest)
        return self.folder / MANIFEST

    @classmethod
    def load(cls, folder: Path) -> DatasetSnapshot:
        """The snapshot that lies in `folder`.

        Raises:
            DataError: there is none, it is of another version, or it was altered.
        """
        with reading_back(folder, what="snapshot") as (manifest, transforms):
            snapshot = snapshot_from(manifest, transforms, folder)
        digests = {name: transform.digest for name, transform in snapshot.transforms.items()}
        if identity_digest(manifest["identity"]) != snapshot.digest or manifest["identity"]["transforms"] != digests:
            raise DataError(f"snapshot = {folder} was altered after it was made; prepare the data again.")
        refuse_changed_size(folder, manifest["parts"])
        return snapshot

    def _parts(self, split: str, stem: str, suffix: str) -> list[Path]:
        if split not in SPLITS:
            raise DataError(f"split = {split} is unknown; use one of {', '.join(SPLITS)}.")
        return sorted((self.folder / split).glob(f"{stem}-*.{suffix}"))

    def _refuse_changed(self, paths: Sequence[Path]) -> None:
        refuse_changed_bytes(self.folder, paths, self.manifest.get("blake3", {}))

    def _damaged(self, split: str, error: Exception) -> DataError:
        return DataError(f"snapshot = {self.folder / split} is damaged ({error}); prepare the data again.")


def snapshot_from(manifest: Mapping[str, Any], transforms: Mapping[str, Any], folder: Path) -> DatasetSnapshot:
    """The record of a manifest and its transforms in JSON form."""
    return DatasetSnapshot(
        name=manifest["name"],
        digest=manifest["digest"],
        folder=folder,
        schema=TableSchema.from_json(manifest["identity"]["schema"]),
        transforms={name: Transform.from_json(value) for name, value in transforms.items()},
        num_rows=manifest["num_rows"],
        findings=tuple(Finding.from_json(finding) for finding in manifest["findings"]),
        quarantined=manifest["quarantined"],
        manifest=manifest,
    )


def identity_digest(identity: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the canonical JSON of what makes a snapshot what it is."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
