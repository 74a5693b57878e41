"""A folder that is whole or not there: written beside its place, and put into it in one step."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlcluster.errors import ClusterError


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


def refuse_lost(folder: Path, names: Iterable[str], place: Path) -> None:
    """Raises ClusterError where a worker wrote a file that is not in `folder`, which is to become `place`."""
    lost = next((name for name in names if not (folder / name).is_file()), None)
    if lost is not None:
        raise ClusterError(
            f"folder = {place.parent} is not shared by every node ({lost} is not there); use one that is."
        )


def write_json(path: Path, value: Any) -> None:
    """Indented, for people to read too."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


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
