"""What is written beside prepared data, whatever form it has: where it came from, and what each file must be."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from mlcluster.data.first_read import FittedSource
from mlcluster.data.split import SPLITS
from mlcluster.data.written import FORMAT_VERSION, WrittenFile


class WrittenPart(Protocol):
    """What one task wrote."""

    @property
    def num_rows(self) -> Mapping[str, int]:
        """By split."""

    @property
    def files(self) -> Mapping[str, WrittenFile]:
        """By path within the folder."""


def make_manifest(fitted: FittedSource, parts: Sequence[WrittenPart], *, files_key: str, **own: Any) -> dict[str, Any]:
    """The manifest in plain JSON, as it is read back; `own` is what this form of the data adds.

    The sizes of the files are under `files_key`, their hashes under `blake3`.
    """
    files = {name: file for part in parts for name, file in part.files.items()}
    manifest = {
        "format_version": FORMAT_VERSION,
        "source": fitted.source.text,
        **fitted.origin,
        "files": [asdict(file) for file in fitted.source.files],
        "rows": {"source": fitted.source.num_rows, **fitted.rows.counts},
        "num_rows": {split: sum(part.num_rows.get(split, 0) for part in parts) for split in SPLITS},
        "quarantined": fitted.rows.num_quarantined,
        "findings": [finding.to_json() for finding in fitted.findings],
        files_key: {name: file.size_bytes for name, file in files.items()},
        "blake3": {name: file.blake3 for name, file in files.items()},
        **own,
    }
    plain: dict[str, Any] = json.loads(json.dumps(manifest))
    return plain


def content_of(fitted: FittedSource) -> dict[str, Any]:
    """What makes prepared data what it is, beside the files of its source and its transforms."""
    return {
        "schema": fitted.schema.to_json(),
        "split": fitted.rows.rule.to_json(),
        "labels": fitted.rows.labels_digest,
    }
