"""Bundles for later: those that replicas ask the front door for, and those that come back with a head."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from mlcluster.errors import ClusterError
from mlcluster.registry import Bundle, digest_of


class KeptBundles:
    """The bundles in `folder`, by their digests."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, files: Mapping[str, bytes]) -> Path:
        """Keeps a bundle, which is checked where it is not there yet; its folder.

        Raises:
            BundleError: it is damaged.
        """
        folder = self._of(digest_of(files))
        if not folder.exists():
            Bundle.from_files(files).write(folder)
        return folder

    def files(self, digest: str) -> dict[str, bytes]:
        """The files of a bundle.

        Raises:
            ClusterError: it is not kept.
        """
        folder = self._of(digest)
        if not folder.is_dir():
            raise ClusterError(f"bundle = {digest} is not kept here; deploy again.")
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    def drop_all_but(self, digests: Collection[str]) -> None:
        for path in self._folder.iterdir() if self._folder.exists() else ():
            if path.name not in digests:
                shutil.rmtree(path)

    def _of(self, digest: str) -> Path:
        return self._folder / Path(digest).name
