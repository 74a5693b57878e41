"""A folder that is whole or not there: written beside its place, and put into it in one step."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to write into, which takes the place of `folder` when all went well."""
    folder = folder.absolute()  # an engine's workers may stand elsewhere
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        unfinished.chmod(0o755)
        yield unfinished
        _put_in_place(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _put_in_place(unfinished: Path, folder: Path) -> None:
    if not folder.exists():
        unfinished.rename(folder)
        return
    # A folder that is not empty cannot be replaced in one call: the old one steps aside and is then removed.
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    folder.rename(aside / "snapshot")
    try:
        unfinished.rename(folder)
    except OSError:
        (aside / "snapshot").rename(folder)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
