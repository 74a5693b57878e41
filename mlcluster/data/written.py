"""Files of prepared data: what each was when it was written, and the refusal of one that is something else now."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from mlcluster.errors import DataError

FORMAT_VERSION = 1
"""Of the folder and its manifest."""
MANIFEST = "manifest.json"
TRANSFORMS = "transforms.json"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenFile:
    """A file as it was when it was written."""

    size_bytes: int
    blake3: str

    @classmethod
    def of(cls, path: Path) -> WrittenFile:
        """The file as it is now."""
        return cls(size_bytes=path.stat().st_size, blake3=file_blake3(path))


def file_blake3(path: Path) -> str:
    """As `b3sum` prints it. About 0.15 CPU-s a GB; not over a memory map, whose pages would count as memory in use."""
    digest = blake3()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def reading_back(folder: Path, *, what: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The manifest and the transforms of a folder, while prepared data is made from them again.

    Raises:
        DataError: there is nothing of the kind, or it does not hold what is asked of it.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        transforms = json.loads((folder / TRANSFORMS).read_text(encoding="utf-8"))
        if manifest["format_version"] != FORMAT_VERSION:
            raise DataError(f"{what} = {folder} has another format; prepare the data again.")
        yield manifest, transforms
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{what} = {folder} cannot be read ({reason}); prepare the data again.") from error


def refuse_changed_size(folder: Path, sizes: Mapping[str, int]) -> None:
    """Raises DataError for the first file that is missing or of another size; nothing is read."""
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            raise DataError(f"snapshot = {path} is missing or cut short; prepare the data again.")


def refuse_changed_bytes(folder: Path, paths: Sequence[Path], hashes: Mapping[str, str]) -> None:
    """Raises DataError for the first of `paths` whose bytes are not those that were written.

    Always by the bytes: size, time and inode stay the same where a disk errs, and a time can be set at will. What was
    prepared before hashes were written down has none, and passes.
    """
    for path in paths:
        name = path.relative_to(folder).as_posix()
        if hashes and hashes.get(name) != file_blake3(path):
            raise DataError(
                f"snapshot = {path} was altered after it was made (its BLAKE3 is not that of manifest.json); "
                "prepare the data again, with --fresh in a run."
            )
