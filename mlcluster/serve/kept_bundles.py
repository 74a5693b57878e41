"""Bundles that replicas ask for when they need them: a folder beside the front door, one folder a bundle within."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from mlcluster.errors import ClusterError
from mlcluster.registry import Bundle


class KeptBundles:
    """The bundles in `folder`, by their digests."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, files: Mapping[str, bytes]) -> None:
        """Keeps a bundle; it is checked first.

        Raises:
            BundleError: it is damaged.
        """
        bundle = Bundle.from_files(files)
        if not self._of(bundle.digest).exists():
            bundle.write(self._of(bundle.digest))

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
